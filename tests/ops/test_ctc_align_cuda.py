"""The CUDA kernels of ``ctc_align`` on the CPU: each internal boundary, orders of threads, faults, wrong lines."""

import functools

import pytest
import torch

import lisa_kernels
from lisa_kernels.ops.ctc_align import native_impl, reference
from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.cuda.ops import (
    emulated_kernels,
    host_kernels,
    op_sources,
    why_no_emulated_ops,
    why_no_host_ops,
)
from tests.ops.ctc_faults import FAULTS, check_alignment
from tests.ops.ctc_problems import concatenate, random_logits, random_targets
from tests.ops.cuda_changes import run_changed

pytestmark = pytest.mark.skipif(why_no_host_ops() is not None, reason=f"needs {why_no_host_ops()}")
needs_nvcc = pytest.mark.skipif(why_no_emulated_ops() is not None, reason=f"needs nvcc: {why_no_emulated_ops()}")

SOURCES = [path for path in op_sources() if path.stem == "ctc_align"]
# A warp takes 31, 63, ... 511 labels (fp64: up to 255), a block more; beyond 2047 its states are in global memory.
LABELS = [(0, 5), (1, 1), (1, 2), (31, 64), (32, 65), (63, 70), (64, 131), (127, 260), (128, 300), (255, 520)]
LONG_LABELS = [(256, 530), (511, 1030), (512, 1031), (513, 600), (1100, 1300), (2100, 2200)]


def problem(labels, frames, *, batch=2, classes=20, dtype=torch.float32, ties=False):
    """The last target is one label shorter and its utterance a frame; lengths are tensors."""
    logits = random_logits(frames, batch, classes, seed=frames + labels, dtype=dtype)
    if ties:
        logits = logits.clamp(-1, 1).round()
    lengths, frame_counts = torch.full((batch,), labels), torch.full((batch,), frames)
    if batch > 1:
        lengths[-1], frame_counts[-1] = max(0, labels - 1), max(0, frames - 1)
    # Neighbours differ: no band is too narrow.
    targets = 1 + (random_targets(classes, batch, labels) + torch.arange(labels) % 2 * classes) % (classes - 1)
    targets[:, 1:] += (targets[:, 1:] == targets[:, :-1]).long()
    return logits, targets.clamp(max=classes - 1), frame_counts, lengths


def on_host(*args, sources=SOURCES, thread_order=None, **options):
    with host_kernels(sources, thread_order=thread_order), lisa_kernels.use_backend("cuda"):
        return lisa_kernels.ctc_align(*args, **options)


def expected(*args, **options):
    """Of the definition; of the CPU kernel, which is proved against it, where that takes a second and more."""
    with lisa_kernels.use_backend("reference" if args[0].shape[0] < 300 else None):
        return lisa_kernels.ctc_align(*args, **options)


def check(got, wanted):
    assert torch.equal(got.states, wanted.states)
    assert torch.equal(got.paths, wanted.paths)
    assert_matches(got.scores, wanted.scores.double(), depth=4, name="scores")
    assert_matches(got.total, wanted.total.double(), depth=4, name="total")


@pytest.mark.parametrize(("labels", "frames"), LABELS)
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
def test_targets_on_both_sides_of_each_plan(labels, frames, ties):
    inputs = problem(labels, frames, ties=ties)
    check(on_host(*inputs), expected(*inputs))


@pytest.mark.prove
@pytest.mark.parametrize(("labels", "frames"), LONG_LABELS)
@pytest.mark.parametrize("band", [None, 40])
def test_long_targets_go_from_warps_to_blocks_and_to_global_memory(labels, frames, band):
    inputs = problem(labels, frames, batch=1, ties=True)
    check(on_host(*inputs, band=band), expected(*inputs, band=band))


@pytest.mark.parametrize(("labels", "frames", "band"), [(20, 50, 1), (64, 140, 5), (130, 200, 33), (520, 560, 17)])
def test_rows_as_wide_as_the_band_hold_what_full_rows_do(labels, frames, band):
    """Groups of 32 positions begin inside the window, between two of them, and far from it."""
    inputs = problem(labels, frames, batch=1, ties=True)
    check(on_host(*inputs, band=band), expected(*inputs, band=band))


@pytest.mark.parametrize(("labels", "frames"), [(31, 70), (64, 131), (127, 260), (256, 270)])
def test_fp64_has_plans_of_its_own(labels, frames):
    inputs = problem(labels, frames, dtype=torch.float64)
    check(on_host(*inputs), expected(*inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("classes", [9, 1500])
def test_rows_of_halves_are_read_by_warps_and_blocks(dtype, classes):
    logits, *rest = problem(20, 50, classes=classes)
    options = {"star": -1, "star_penalty": 0.5, "log_priors": torch.linspace(-4, 0, classes)}
    rest[0][:, ::4] = -1
    check(on_host(logits.to(dtype), *rest, **options), expected(logits.to(dtype), *rest, **options))


@pytest.mark.parametrize("band", [None, 6])
@pytest.mark.parametrize("labels", [20, 100, 300])
def test_concatenated_targets_find_their_plan(labels, band):
    logits, targets, frames, lengths = problem(labels, labels + 40, batch=3)
    lengths[0] = 3
    inputs = logits, concatenate(targets, lengths), frames, lengths
    check(on_host(*inputs, band=band), expected(*inputs, band=band))


@pytest.mark.parametrize(("labels", "frames", "band"), [(33, 70, None), (40, 21, None), (520, 540, 9)])
def test_no_order_of_threads_changes_a_bit(labels, frames, band):
    inputs = problem(labels, frames)
    first = on_host(*inputs, band=band)
    for seed in (1, 2, 3):
        other = on_host(*inputs, band=band, thread_order=seed)
        assert torch.equal(first.states, other.states)
        assert same_bits(first.scores, other.scores)
        assert same_bits(first.total, other.total)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_device_values_gives_nan_for_its_utterance_only(fault):
    with host_kernels(SOURCES):
        check_alignment(native_impl, fault)


def test_concatenated_lengths_of_another_total_give_nan():
    """No target is where it belongs then: all utterances are at fault, as in the definition."""
    logits, targets, frames, _ = problem(5, 20)
    arguments = logits, targets.flatten(), frames, torch.tensor([5, 7]), None, 0, None, 0.0, 2
    with host_kernels(SOURCES), lisa_kernels.use_backend("cuda"):
        total = native_impl.forward(*arguments)[3]
    assert total.isnan().all()
    assert reference.forward(*arguments)[3].isnan().all()


@needs_nvcc
@pytest.mark.prove
@pytest.mark.parametrize(
    ("labels", "frames", "band"), [(0, 3, None), (1, 1, None), (31, 64, None), (33, 70, 4), (513, 540, 20)]
)
def test_the_compiled_kernels_in_the_emulator_agree(labels, frames, band):
    with emulated_kernels("sm_80", SOURCES, block_order=1), lisa_kernels.use_backend("cuda"):
        # Within: the emulator knows of no tensor that was there before.
        inputs = problem(labels, frames)
        got = lisa_kernels.ctc_align(*inputs, band=band)
    check(got, expected(*inputs, band=band))


def printed(run):
    """The states of three problems, a line each."""
    cases = (40, 60, 3), (40, 90, None), (520, 560, 6)
    found = [run(*problem(labels, frames, ties=True), band=band).states for labels, frames, band in cases]
    return "\n".join(" ".join(map(str, states.flatten().tolist())) for states in found)


_RUN = """
import functools, pathlib, sys
from tests.ops.test_ctc_align_cuda import on_host, printed
print(printed(functools.partial(on_host, sources=[pathlib.Path(sys.argv[1])], thread_order=1)))
"""

# Each is 20 s of compiling.
_WRONG = [
    ("ctc_align_search.cuh", "s.by_skip = skip > blank;", "s.by_skip = skip >= blank;"),
    ("ctc_align_search.cuh", "j >= first && j <= last ? labels[j & mask]", "j >= 0 ? labels[j & mask]"),
    ("ctc_align_search.cuh", "    __syncthreads();\n    const RingStates done", "    const RingStates done"),
    ("ctc_align_lattice.cuh", "(product + u.frames - 1) / u.frames", "product / u.frames"),
]


@pytest.mark.prove
@pytest.mark.parametrize("change", _WRONG, ids=lambda change: change[2])
def test_a_wrong_line_is_caught(change, tmp_path):
    done = run_changed("ctc_align", change, _RUN, tmp_path)
    assert done.returncode == 0 or "HostFault" in done.stderr, done.stderr
    assert done.stdout.strip() != printed(expected)


def test_the_right_lines_print_what_wrong_ones_must_not():
    assert printed(functools.partial(on_host, thread_order=1)) == printed(expected)
