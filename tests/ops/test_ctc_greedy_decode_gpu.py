"""The CUDA and Triton kernels of ``ctc_greedy_decode`` on this machine: boundaries, orders, launches, widths."""

import re

import pytest
import torch

import lisa_kernels
from lisa_kernels.core.config import read_settings
from lisa_kernels.core.launch import record, run_through
from lisa_kernels.core.registry import select
from lisa_kernels.core.targets import TARGETS, force_target
from lisa_kernels.ops.ctc_greedy_decode import reference
from lisa_kernels.testing import same_bits
from lisa_kernels.testing.cuda.ops import (
    emulated_kernels,
    host_kernels,
    op_sources,
    why_no_emulated_ops,
    why_no_host_ops,
)
from tests.ops.ctc_problems import check_decoding, random_logits

SPEC = select(["ctc_greedy_decode"])[0]
GPUS = [name for name, target in TARGETS.items() if target.backend]
SOURCES = [path for path in op_sources() if path.stem == "ctc_greedy_decode"]
needs_host = pytest.mark.skipif(why_no_host_ops() is not None, reason=f"needs {why_no_host_ops()}")
needs_nvcc = pytest.mark.skipif(why_no_emulated_ops() is not None, reason=f"needs nvcc: {why_no_emulated_ops()}")
compiles = pytest.mark.skipif(read_settings().interpret, reason="compiles kernels: unset TRITON_INTERPRET")


def on_host(*args, thread_order=None, **options):
    with host_kernels(SOURCES, thread_order=thread_order), lisa_kernels.use_backend("cuda"):
        return lisa_kernels.ctc_greedy_decode(*args, **options)


@needs_host
@pytest.mark.parametrize("frames", [1, 31, 32, 33, 255, 256, 257, 600])
def test_frames_at_the_ends_of_warps_and_chunks_agree_with_the_definition(frames):
    """Few classes: runs of equal ones reach across the ends."""
    logits, lengths = random_logits(frames, 2, 3, seed=frames, dtype=torch.float32).round(), [frames, frames // 2]
    check_decoding(on_host(logits, lengths), logits, torch.tensor(lengths))


@needs_host
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("classes", [1, 33, 1024, 1025, 8200])
def test_classes_on_both_sides_of_a_warp_s_and_of_a_tile_agree_with_the_definition(classes, dtype):
    """A warp takes up to 1024 classes, a block holds 8192 floats."""
    logits = random_logits(5, 2, classes, dtype=dtype)
    # The best stands in the last tile of one utterance and twice in the other.
    logits[:, 0, -1] = 9
    logits[:, 1, classes // 2] = logits[:, 1, -1] = 9
    check_decoding(on_host(logits), logits, torch.tensor([5, 5]))


@needs_host
def test_no_order_of_threads_changes_a_bit():
    logits = random_logits(300, 2, 40, dtype=torch.float32)
    first = on_host(logits, [300, 270])
    for seed in (1, 2, 3):
        again = on_host(logits, [300, 270], thread_order=seed)
        assert torch.equal(again.ids, first.ids)
        assert torch.equal(again.ends, first.ends)
        assert same_bits(again.scores, first.scores)


@needs_host
@pytest.mark.parametrize("length", [-3, 21])
def test_a_device_length_out_of_range_gives_a_nan_score_on_cuda(length):
    logits = random_logits(20, 2, 6, dtype=torch.float32)
    with host_kernels(SOURCES):
        from lisa_kernels.ops.ctc_greedy_decode import native_impl

        ids, _, _, _, scores = native_impl.forward(logits, torch.tensor([20, length]), 0)
    assert scores.isnan().tolist() == [False, True]
    assert torch.equal(ids, reference.forward(logits, torch.tensor([20, min(max(length, 0), 20)]), 0)[0])


@needs_nvcc
@pytest.mark.prove
@pytest.mark.parametrize("classes", [17, 1030])
def test_nvcc_s_code_agrees_with_the_definition(classes):
    logits, lengths = random_logits(40, 2, classes, dtype=torch.float32), [40, 33]
    with emulated_kernels("sm_80", SOURCES), lisa_kernels.use_backend("cuda"):
        # The emulator knows the memory that was allocated since.
        got = lisa_kernels.ctc_greedy_decode(logits.clone(), lengths)
    check_decoding(got, logits, torch.tensor(lengths))


def launches(target, classes, dtype=torch.float32):
    triton_impl = pytest.importorskip("lisa_kernels.ops.ctc_greedy_decode.triton_impl", reason="needs triton")
    logits = torch.empty(500, 16, classes, dtype=dtype, device="meta")
    with force_target(target), record() as log:
        triton_impl.forward(logits, torch.empty(16, dtype=torch.int64, device="meta"), 0)
    return log


@compiles
@pytest.mark.parametrize("target", GPUS)
def test_a_call_is_two_launches(target):
    names = [launch.kernel.__name__ for launch in launches(target, 1000)]
    assert names == ["ctc_best_kernel", "ctc_collapse_kernel"]


@compiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_pass_over_rows_loads_128_bits_a_thread(dtype):
    from lisa_kernels.testing.compiled import compile_launch

    rows = launches("sm_90", 1000, dtype)[0]
    assert re.search(r"ld\.global\.v4\.b32", compile_launch(rows, "sm_90").asm["ptx"])


@compiles
@pytest.mark.prove
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("frames", [60, 1200])
def test_compiled_kernels_agree_with_the_definition(frames, nan):
    """1200 frames are two chunks of several warps, which scan through shared memory.

    A sum with NaN differs between threads: in one cell of shared memory, that is a race.
    """
    from lisa_kernels.ops.ctc_greedy_decode import triton_impl
    from lisa_kernels.testing.compiled import compile_launch
    from lisa_kernels.testing.ptx import run_compiled

    logits, lengths = random_logits(frames, 1, 3, dtype=torch.float32).round(), torch.tensor([frames])
    if nan:
        logits[::2, 0, 1], logits[5] = float("nan"), float("inf")

    def execute(launch, values):
        run_compiled(compile_launch(launch, "sm_80"), launch.grid, launch.passed(values))

    with force_target("sm_80"), run_through(execute):
        got = triton_impl.forward(logits, lengths, 0)
    check_decoding(got, logits, lengths)
