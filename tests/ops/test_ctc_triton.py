"""``ctc_loss`` on Triton as compiled: launches, access widths, and the emulator on the recursion's barriers."""

import re

import pytest
import torch

from lisa_kernels.core.launch import record, run_through
from lisa_kernels.core.targets import TARGETS, force_target
from lisa_kernels.testing import assert_matches
from tests.ops.ctc_problems import gradient, random_logits, random_targets, without_checks

pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")

from lisa_kernels.core.config import read_settings
from lisa_kernels.ops.ctc import reference, tiles, triton_impl
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx import PtxError, run_compiled

pytestmark = pytest.mark.skipif(read_settings().interpret, reason="compiles kernels: unset TRITON_INTERPRET")
GPUS = [name for name, target in TARGETS.items() if target.backend]


def forward_and_backward(logits, targets, frames, labels):
    return without_checks(triton_impl, logits, targets, frames, labels)


def launches(target, classes, labels, dtype=torch.float32, *, padded=True):
    """What one call would launch."""
    logits = torch.empty(500, 16, classes, dtype=dtype, device="meta")
    targets = torch.empty((16, labels) if padded else 16 * labels, dtype=torch.int64, device="meta")
    lengths = torch.empty(16, dtype=torch.int64, device="meta")
    with force_target(target), record() as log:
        forward_and_backward(logits, targets, lengths, lengths)
    return log


def launched(log):
    return [launch.kernel.__name__.removeprefix("ctc_").removesuffix("_kernel") for launch in log]


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "concatenated"])
def test_by_position_forward_is_four_launches_and_backward_two(target, padded):
    """Concatenated targets take one more each, to add up their lengths."""
    first = [] if padded else ["offsets"]
    names = [*first, "rows", "meet", "part", "occupancy", *first, "links", "grad"]
    assert launched(launches(target, 1000, 80, padded=padded)) == names


@pytest.mark.parametrize("target", GPUS)
def test_by_class_forward_is_five_launches_and_backward_one(target):
    assert launched(launches(target, 32, 80)) == ["rows", "meet", "part", "links", "occupancy", "grad"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dense_passes_load_and_store_128_bits_a_thread(dtype):
    for launch in launches("sm_90", 1000, 80, dtype):
        name = launch.kernel.__name__
        if name in ("ctc_rows_kernel", "ctc_grad_kernel"):
            ptx = compile_launch(launch, "sm_90").asm["ptx"]
            assert re.search(r"ld\.global\.v4\.b32", ptx), name
            assert name == "ctc_rows_kernel" or re.search(r"st\.global\.v4\.b32", ptx)


def small_problem(labels):
    frames = labels + 4
    lengths = torch.tensor([frames]), torch.tensor([labels])
    return random_logits(frames, 1, 9, dtype=torch.float32), random_targets(9, 1, labels), *lengths


def emulated(args, without_barriers=""):
    """Run as compiled for sm_80; the named kernel without its barriers."""

    def execute(launch, values):
        compiled = compile_launch(launch, "sm_80")
        ptx = compiled.asm["ptx"]
        if launch.kernel.__name__ == without_barriers:
            ptx = re.sub(r"bar\.sync\s+0;", "", ptx)
        run_compiled(compiled, launch.grid, launch.passed(values), ptx=ptx)

    with force_target("sm_80"), run_through(execute):
        return forward_and_backward(*args)


# One warp with all states, one with two a thread, several warps.
STATES = [(7, None), (40, None), (35, tiles.StatesTile(BLOCK=64, num_warps=2)), (70, tiles.StatesTile(BLOCK=32))]


@pytest.mark.prove
@pytest.mark.parametrize(("labels", "tile"), STATES)
def test_compiled_recursion_agrees_with_the_definition(labels, tile, monkeypatch):
    if tile is not None:
        monkeypatch.setitem(tiles.STATES, "sm_80", ((None, tile),))
    args = small_problem(labels)
    loss, grad = emulated(args)
    expected = gradient(args[0].double(), lambda x: reference.ctc_loss(x, *args[1:], reduction="none"))
    assert_matches(loss, expected[0], depth=4 * len(args[0]), name="loss")
    assert_matches(grad, expected[1], depth=4 * len(args[0]), name="gradient")


def test_a_missing_barrier_between_frames_is_a_race(monkeypatch):
    """Planted: warps that do not wait for each other."""
    monkeypatch.setitem(tiles.STATES, "sm_80", ((None, tiles.StatesTile(BLOCK=64, num_warps=2)),))
    with pytest.raises(PtxError, match="global race"):
        emulated(small_problem(35), without_barriers="ctc_meet_kernel")
