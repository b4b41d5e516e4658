"""``ctc_loss`` on Triton, interpreted under the sanitizer: sizes at the blocks' ends, storage, traffic, options."""

import functools
import itertools

import pytest
import torch

import lisa_kernels
from lisa_kernels.ops.ctc import reference, tiles, triton_impl
from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.interpreter import honest_interpreter
from lisa_kernels.testing.sanitizer import SanitizerError, sanitize
from tests.ops.backends import BACKENDS
from tests.ops.ctc_faults import FAULTS, check_loss
from tests.ops.ctc_problems import gradient, random_logits, random_targets, without_checks

LARGE = pytest.mark.prove


def problem(frames, batch, classes, labels):
    """Arguments of ``ctc_loss``: the first utterance full, the last short."""
    logits, targets = random_logits(frames, batch, classes, dtype=torch.float32), random_targets(classes, batch, labels)
    lengths = torch.full((batch,), frames), torch.full((batch,), labels)
    if batch > 1:
        lengths[0][-1] -= frames // 4
        lengths[1][-1] -= labels // 2
    return logits, targets, *lengths


def on_triton(logits, *rest, **options):
    with lisa_kernels.use_backend("triton"), sanitize():
        return gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, reduction="none", **options))


def judge(got, logits, *rest):
    expected = gradient(logits.double(), lambda x: reference.ctc_loss(x, *rest, reduction="none"))
    finite = torch.where(expected[1].isfinite(), expected[1], 0)
    assert_matches(got[0], expected[0], depth=4 * logits.shape[0], name="loss")
    assert_matches(got[1], finite, depth=4 * logits.shape[0], name="gradient")


@pytest.mark.parametrize(
    ("frames", "batch", "labels"),
    [
        (1, 1, 0), (1, 2, 1), (2, 1, 1), (2, 2, 2), (5, 2, 0), (33, 1, 31), (35, 1, 33),
        pytest.param(43, 2, 32, marks=LARGE),
        *(pytest.param(frames, batch, labels, marks=LARGE) for frames, batch, labels in
          [(150, 2, 127), (151, 1, 128), (152, 2, 129), (600, 1, 512), (601, 1, 513)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("classes", [5, 600])
def test_sizes_at_the_ends_of_blocks_agree_with_the_definition(frames, batch, labels, classes):
    args = problem(frames, batch, classes, labels)
    judge(on_triton(*args), *args)


@pytest.mark.parametrize(("frames", "labels"), [(23, 7), pytest.param(83, 40, marks=LARGE)])
def test_states_recomputed_from_checkpoints_give_the_same_bits(frames, labels, monkeypatch):
    """At 11 + 12 frames a chunk has 4 rows, the last not full."""
    args = problem(frames, 1, 6, labels)
    kept = on_triton(*args)
    monkeypatch.setattr(triton_impl, "_STORED_BYTES", 0)
    recomputed = on_triton(*args)
    assert same_bits(kept[0], recomputed[0])
    assert same_bits(kept[1], recomputed[1])


@pytest.mark.parametrize("sizes", [(7, 3, 11, 2), (1, 1, 2, 1), (9, 2, 4, 6)], ids=str)
@pytest.mark.parametrize("other", BACKENDS)
@pytest.mark.parametrize("first", [True, False], ids=["forward on triton", "backward on triton"])
def test_saved_tensors_mean_the_same_as_in_another_backend(sizes, other, first):
    args = problem(*sizes)
    leaf = args[0].requires_grad_()
    before, after = ("triton", other) if first else (other, "triton")
    with honest_interpreter():
        with lisa_kernels.use_backend(before):
            loss = lisa_kernels.ctc_loss(leaf, *args[1:], reduction="none")
        with lisa_kernels.use_backend(after):
            (got,) = torch.autograd.grad(loss.sum(), leaf)
    judge((loss.detach(), got), leaf.detach(), *args[1:])


@pytest.mark.parametrize("labels", [0, 3, 33])
def test_utterances_without_frames_read_no_emissions(labels):
    """Loading the next frame's emissions ahead once read those of a frame before the first."""
    logits, targets, _, lengths = problem(4, 2, 5, labels)
    args = logits, targets, torch.tensor([0, 4]), lengths
    judge(on_triton(*args), *args)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_device_values_gives_nan_for_its_utterance_only(fault):
    with sanitize():
        check_loss(triton_impl, fault)


@pytest.mark.parametrize("lengths", [[3, 4], [9, 9], [-1, 5], [0, 3]], ids=str)
def test_concatenated_targets_of_another_total_stay_within_bounds(lengths):
    logits, lengths = random_logits(9, 2, 5, dtype=torch.float32), torch.tensor(lengths)
    targets = torch.tensor([1, 2, 3, 1, 2, 4])
    with sanitize(outputs=["occupancy_out"]):
        loss, grad = without_checks(triton_impl, logits, targets, torch.tensor([9, 9]), lengths)
    assert grad.isfinite()[:, loss.isfinite()].all()
    assert grad[:, loss.isnan()].isnan().all()


def test_dense_tensors_are_read_and_written_once_and_padding_is_not_read():
    logits, targets, frames, labels = problem(8, 2, 600, 2)
    with lisa_kernels.use_backend("triton"), sanitize() as report:
        gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, frames, labels))
    traffic = report.traffic
    used = int(frames.sum()) * 600 * 4
    gathered = int((frames * (labels + 1)).sum()) * 4
    assert traffic["logits"].read == used
    assert traffic["logits"].loaded <= 2 * used + gathered
    assert traffic["grad_out"].written == logits.numel() * 4
    assert traffic["grad_out"].stored == logits.numel() * 4


@pytest.fixture
def asked(monkeypatch):
    """Bytes that each kernel's programs asked for, at the tiles of a GPU: all, and each byte of a program once."""
    for table in (tiles.ROWS, tiles.GRAD, tiles.GRAD_SINGLE):
        monkeypatch.setitem(table, "interp", table["sm_90"])
    right, found = triton_impl.launch, {}

    def count(traffic):
        return sum(tensor.loaded + tensor.stored for tensor in traffic.tensors.values()), traffic.working_sets

    def launch(kernel, *args, **options):
        before = count(session.traffic)
        right(kernel, *args, **options)
        found[kernel.__name__] = tuple(now - then for now, then in zip(count(session.traffic), before, strict=True))

    monkeypatch.setattr(triton_impl, "launch", launch)
    with sanitize() as session:
        yield found


def excess(asked, frames, classes, labels, dtype):
    """Bytes asked for over those that must be: forward with each byte of a program once, forward and backward."""
    logits, *rest = problem(frames, 1, classes, labels)
    with lisa_kernels.use_backend("triton"):
        gradient(logits.to(dtype), lambda x: lisa_kernels.ctc_loss(x, *rest))
    row, statistics = classes * dtype.itemsize, 2 * 4
    forward = frames * (row + statistics + 8 * (labels + 1))
    backward = frames * (2 * row + statistics + 4 * (labels + 1))
    every, once = asked["ctc_rows_kernel"]
    return once / forward, every / forward, asked["ctc_grad_kernel"][0] / backward


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [
        (501, torch.bfloat16),
        *(
            pytest.param(*case, marks=LARGE)
            for case in itertools.product((1000, 1001), (torch.float32, torch.bfloat16))
        ),
    ],
    ids=str,
)
def test_row_passes_ask_for_at_most_5_percent_more_than_they_must(classes, dtype, asked):
    """Once more, 8 % of the logits, forward asks only the L1 cache: for those of the target."""
    labels = 80 * classes // 1000
    forward, _, backward = excess(asked, labels + 16, classes, labels, dtype)
    assert forward <= 1.05
    assert backward <= 1.05


def test_a_look_up_of_classes_for_each_row_alone_is_seen(asked, monkeypatch):
    """Planted: 2 bytes a class for each row of bf16."""
    monkeypatch.setitem(tiles.GRAD_SINGLE, "interp", ((None, tiles.RowTile(ROWS=1, BLOCK=512)),))
    assert excess(asked, 24, 201, 10, torch.bfloat16)[2] > 1.05


def test_float64_is_refused_with_the_reason():
    with lisa_kernels.use_backend("triton"), pytest.raises(RuntimeError, match="float64 logits; its states"):
        lisa_kernels.ctc_loss(random_logits(4, 1, 3), torch.ones(1, 1, dtype=torch.long), [4], [1])


def test_posteriors_left_undivided_are_seen(monkeypatch):
    """Planted: without the division a frame's posteriors sum to the total's mantissa."""
    right = triton_impl.launch

    def without_division(kernel, *args, **options):
        if kernel.__name__ != "ctc_occupancy_kernel":
            right(kernel, *args, **options)

    monkeypatch.setattr(triton_impl, "launch", without_division)
    args = problem(12, 1, 40, 3)
    with pytest.raises(AssertionError, match="gradient"):
        judge(on_triton(*args), *args)


def test_a_direction_that_is_left_out_is_seen(monkeypatch):
    """Planted: the walks from the meeting of half the programs."""
    right = triton_impl.launch

    def half(kernel, grid, *args, **options):
        right(kernel, (grid[0] // 2,) if kernel.__name__ == "ctc_part_kernel" else grid, *args, **options)

    monkeypatch.setattr(triton_impl, "launch", half)
    with pytest.raises(SanitizerError, match="uninitialised read"):
        on_triton(*problem(12, 1, 40, 3))


OPTIONS = {
    "star": {"star": 9, "star_penalty": 0.5},
    "priors": {"log_priors": random_logits(9, seed=3, dtype=torch.float32) - 2},
    "entropy": {"entropy": True},
    "consistency": {"consistency": True},
}
OPTIONS["all"] = functools.reduce(dict.__or__, OPTIONS.values())


def terms_and_gradient(function, logits, *rest, **options):
    """The terms in one tensor, and the gradient of their sum with weights."""
    factors = (1.0, 0.7, -0.3)
    leaf = logits.detach().requires_grad_()
    terms = function(leaf, *rest, **options)
    total = sum(factor * term.sum() for factor, term in zip(factors, terms, strict=True))
    return torch.cat(terms).detach(), torch.autograd.grad(total, leaf)[0]


def starred_problem():
    """Four utterances of 9 classes: stars side by side, one beyond a length, confident blanks, too few frames."""
    logits, targets, frames, labels = problem(8, 4, 9, 3)
    targets[1, :2], targets[3, 2] = 9, 9
    logits[:, 0, 0] += 18
    frames[2] = 1
    return logits, targets, frames, labels


@pytest.mark.parametrize("option", OPTIONS)
def test_options_agree_with_the_definition(option):
    args, options = starred_problem(), OPTIONS[option]
    if "star" not in options:
        args[1].clamp_(max=8)
    with lisa_kernels.use_backend("triton"), sanitize():
        got = terms_and_gradient(lisa_kernels.ctc_terms, *args, **options)
    with lisa_kernels.use_backend("reference"):
        expected = terms_and_gradient(lisa_kernels.ctc_terms, args[0].double(), *args[1:], **options)
    assert_matches(got[0], expected[0], depth=32, name="terms")
    assert_matches(got[1], expected[1], depth=32, name="gradient")


def test_a_gradient_over_the_logits_has_the_bits_of_one_beside_them():
    logits, *rest = starred_problem()
    grads = []
    for overwrite in (False, True):
        leaf = logits.clone().requires_grad_()
        with lisa_kernels.use_backend("triton"), sanitize():
            terms = lisa_kernels.ctc_terms(leaf * 1.0, *rest, **OPTIONS["all"], overwrite_logits=overwrite)
            grads.append(torch.autograd.grad(sum(term.sum() for term in terms), leaf)[0])
    assert same_bits(*grads)


def test_a_star_left_out_of_the_gradient_is_seen(monkeypatch):
    """Planted: the row pass in backward without its term."""
    right = triton_impl.launch
    plain = lambda *args, **options: right(*args, **(options | ({"STAR": False} if "STAR" in options else {})))  # noqa: E731
    monkeypatch.setattr(triton_impl, "launch", plain)
    with pytest.raises(AssertionError, match="gradient"):
        test_options_agree_with_the_definition("star")
