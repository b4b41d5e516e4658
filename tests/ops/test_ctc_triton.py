"""``ctc_loss`` on Triton as compiled: launches, access widths, and the emulator on the recursion's barriers."""

import functools
import re

import pytest
import torch
from torch.nn.functional import ctc_loss

from lisa_kernels.core.launch import record, run_through
from lisa_kernels.core.registry import select
from lisa_kernels.core.targets import TARGETS, force_target
from lisa_kernels.testing import assert_matches, same_bits
from tests.ops.ctc_problems import gradient, random_logits, random_targets, without_checks

pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")

from lisa_kernels.core.config import read_settings
from lisa_kernels.ops.ctc import reference, tiles, triton_impl
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx import PtxError, run_compiled
from lisa_kernels.testing.ptx.launch import MAX_INSTRUCTIONS

pytestmark = pytest.mark.skipif(read_settings().interpret, reason="compiles kernels: unset TRITON_INTERPRET")
SPEC = select(["ctc_loss"])[0]
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


def emulated(args, without_barriers="", run=forward_and_backward):
    """Run as compiled for sm_80; the named kernel without its barriers."""

    def execute(launch, values):
        compiled = compile_launch(launch, "sm_80")
        ptx = compiled.asm["ptx"]
        if launch.kernel.__name__ == without_barriers:
            ptx = re.sub(r"bar\.sync\s+0;", "", ptx)
        # A program of the recursion takes up to 200 instructions a frame.
        enough = max(MAX_INSTRUCTIONS, 1000 * len(args[0]))
        run_compiled(compiled, launch.grid, launch.passed(values), ptx=ptx, max_instructions=enough)

    with force_target("sm_80"), run_through(execute):
        return run(*args)


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


def with_all_options(logits, targets, frames, labels, *, overwrite=False):
    """Sum of the terms with a star and priors, and the gradient: a new tensor, or the logits themselves."""
    classes = logits.shape[-1]
    priors = random_logits(classes, seed=1, dtype=torch.float32)
    loss, entropy, consistency, *saved = triton_impl.forward(
        logits, targets, frames, labels, priors, 0, classes, 0.5, False, True, True, overwrite, True
    )
    ones = [torch.ones_like(loss)] * 3
    rest = (*ones, logits, targets, labels, *saved, 0, classes, True, True, [True])
    terms = loss + entropy + consistency
    if overwrite:
        triton_impl.backward_overwriting(*rest)
        return terms, logits
    return terms, triton_impl.backward(*rest)


def two_views(classes):
    """Four utterances, of which two have a star; the views' lengths differ."""
    logits, targets = random_logits(9, 4, classes, dtype=torch.float32), random_targets(classes, 4, 3)
    targets[:2, 1] = classes
    return logits, targets, torch.tensor([9, 8, 7, 9]), torch.tensor([3, 3, 2, 3])


@pytest.mark.parametrize("classes", [pytest.param(3, marks=pytest.mark.prove), 40])
def test_compiled_options_agree_with_the_definition_and_may_overwrite_the_logits(classes):
    args = two_views(classes)
    terms, grad = emulated(args, run=with_all_options)

    def definition(x):
        options = {"log_priors": random_logits(classes, seed=1, dtype=torch.float32), "star": classes}
        return sum(reference.ctc_terms(x, *args[1:], star_penalty=0.5, entropy=True, consistency=True, **options))

    expected = gradient(args[0].double(), definition)
    assert_matches(terms, expected[0], depth=4 * len(args[0]), name="terms")
    assert_matches(grad, expected[1], depth=4 * len(args[0]), name="gradient")
    again = (args[0].clone(), *args[1:])
    over_terms, over = emulated(again, run=functools.partial(with_all_options, overwrite=True))
    assert over is again[0]
    assert same_bits(over, grad)
    assert same_bits(over_terms, terms)


@pytest.mark.parametrize("target", GPUS)
def test_terms_of_rows_take_one_launch_more(target):
    meta = {"device": "meta"}
    lengths = torch.empty(16, dtype=torch.int64, **meta)
    args = torch.empty(500, 16, 1000, **meta), torch.empty(16, 80, dtype=torch.int64, **meta), lengths, lengths
    with force_target(target), record() as log:
        with_all_options(*args)
    assert launched(log) == ["rows", "meet", "part", "occupancy", "terms", "links", "grad"]


@pytest.mark.prove
def test_gradient_keeps_the_promise_on_long_audio():
    """16,000 frames in one warp; longer targets take the same instructions a frame."""
    frames, labels, classes = 16_000, 31, 40
    logits = random_logits(frames, 1, classes, dtype=torch.float32)
    args = logits, random_targets(classes, 1, labels), torch.tensor([frames]), torch.tensor([labels])
    loss, grad = emulated(args)
    expected = gradient(logits.double(), lambda x: ctc_loss(x.log_softmax(-1), *args[1:], reduction="sum"))
    assert_matches(loss[0], expected[0], depth=frames, name="loss")
    assert_matches(grad, expected[1], depth=4 * frames, limit=SPEC.limit("grad_logits", torch.float32), name="gradient")
