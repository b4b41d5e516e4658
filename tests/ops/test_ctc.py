"""``ctc_loss``: what is special to it.  Values, edges and determinism are in tests/contract, from its spec."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import lisa_kernels
from lisa_kernels.core.registry import select
from lisa_kernels.ops.ctc import reference
from lisa_kernels.testing import assert_matches, make_inputs, same_bits
from tests.ops.ctc_problems import gradient, random_logits, random_targets, small_problem

SPEC = select(["ctc_loss"])[0]
INF = float("inf")


def collapse(path, blank):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def enumerated(log_probs, target, blank):
    """-log of the summed probability of all C**T paths that collapse to the target; [T, C]."""
    frames, classes = log_probs.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=frames):
        if collapse(path, blank) == tuple(target):
            total += math.exp(sum(float(log_probs[t, c]) for t, c in enumerate(path)))
    return -math.log(total) if total else INF


@pytest.mark.parametrize("frames", range(7))
@pytest.mark.parametrize("target", [(), (1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 1)], ids=str)
def test_loss_equals_the_sum_over_all_paths(backend, frames, target):
    """The definition itself, without any recursion; targets with repeats, targets too long for the frames."""
    for blank in (0, 2):
        labels = [label if blank == 0 else label - 1 for label in target]
        logits = random_logits(frames, 1, 3, seed=frames)
        expected = torch.tensor([enumerated(logits[:, 0].log_softmax(-1), labels, blank)], dtype=torch.float64)
        arguments = (
            logits,
            torch.tensor([labels], dtype=torch.int64),
            torch.tensor([frames]),
            torch.tensor([len(labels)]),
        )
        for function in (lisa_kernels.ctc_loss, reference.ctc_loss):
            assert_matches(function(*arguments, blank=blank, reduction="none"), expected, depth=7)


@pytest.mark.parametrize("concatenated", [False, True], ids=["padded", "concatenated"])
@pytest.mark.parametrize("classes", [11, 40])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss_and_gradient_equal_torch_in_fp64(backend, concatenated, classes, reduction):
    """Second oracle, where torch is right: repeats, an empty target, lengths below T, infeasible with zero_infinity."""
    logits, targets = random_logits(30, 5, classes), random_targets(classes, 5, 6)
    targets[0, :4] = targets[0, 0]
    targets[3] = targets[3, 0]
    frames, labels = torch.tensor([30, 20, 25, 4, 1]), torch.tensor([6, 3, 0, 5, 1])
    if concatenated:
        targets = torch.cat([row[:length] for row, length in zip(targets, labels.tolist(), strict=True)])
    options = {"reduction": reduction, "zero_infinity": True}
    expected = gradient(logits, lambda x: F.ctc_loss(x.log_softmax(-1), targets, frames, labels, **options))
    for function in (lisa_kernels.ctc_loss, reference.ctc_loss):
        got = gradient(logits, lambda x, run=function: run(x, targets, frames, labels, **options))
        for name, a, b in zip(("loss", "gradient"), got, expected, strict=True):
            assert_matches(a, b, depth=30, name=name)


def test_an_infeasible_target_gives_inf_and_a_gradient_of_zero(backend):
    """torch gives a NaN gradient there; upstream is not multiplied in, so even an infinite one does no harm."""
    logits, targets, _, labels = small_problem()
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, [8, 3], labels, reduction="none") * INF)
    assert loss[1] == INF
    assert (grad[:, 1] == 0).all()
    native = gradient(logits, lambda x: F.ctc_loss(x.log_softmax(-1), targets, [8, 3], labels, reduction="none"))
    assert native[1][:, 1].isnan().any(), "torch was fixed: change the README's table"


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_zero_infinity_changes_the_loss_only(backend, zero_infinity):
    logits, targets, _, labels = small_problem()
    options = {"reduction": "none", "zero_infinity": zero_infinity}
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, [8, 3], labels, **options))
    assert loss[1] == (0 if zero_infinity else INF)
    assert (grad[:, 1] == 0).all()
    assert (grad[:, 0] != 0).all()


def test_an_unused_class_at_minus_infinity_keeps_a_finite_gradient(backend):
    """torch gives a NaN gradient in the frames concerned."""
    logits, targets, frames, labels = small_problem()
    logits[:, :, 4] = -INF
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, frames, labels))
    assert loss.isfinite()
    assert grad.isfinite().all()
    assert (grad[:, :, 4] == 0).all()
    native = gradient(logits, lambda x: F.ctc_loss(x.log_softmax(-1), targets, frames, labels))
    assert native[1].isnan().any(), "torch was fixed: change the README's table"


@pytest.mark.parametrize("value", [float("nan"), INF])
def test_nan_in_a_valid_frame_spoils_its_own_utterance_only(backend, value):
    logits, targets, frames, labels = small_problem()
    clean = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, frames, labels, reduction="none"))
    logits[2, 1, 4] = value
    options = {"reduction": "none", "zero_infinity": True}
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, frames, labels, **options))
    assert loss[1].isnan()
    assert grad[:, 1].isnan().all()
    assert same_bits(loss[0], clean[0][0])
    assert same_bits(grad[:, 0], clean[1][:, 0])


def test_loss_ignores_padding_frames(backend):
    """Frames beyond logit_lengths may hold anything, NaN included, and get gradient 0."""
    logits, targets, _, labels = small_problem()
    clean = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, [8, 5], labels))
    logits[5:, 1] = float("nan")
    dirty = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, targets, [8, 5], labels))
    assert same_bits(clean[0], dirty[0])
    assert same_bits(clean[1], dirty[1])
    assert (dirty[1][5:, 1] == 0).all()


def test_labels_beyond_a_length_are_never_looked_at(backend):
    logits, targets, frames, _ = small_problem()
    clean = lisa_kernels.ctc_loss(logits, targets, frames, [3, 1])
    targets[1, 1:] = torch.tensor([-100, 10**9])
    assert same_bits(clean, lisa_kernels.ctc_loss(logits, targets, frames, [3, 1]))


def test_an_empty_batch_gives_zero_and_keeps_the_graph(backend):
    """torch raises; batches without speech are normal in mixed training."""
    logits = torch.zeros(5, 0, 7, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.int64)
    for reduction in ("sum", "mean", "none"):
        loss = lisa_kernels.ctc_loss(logits, torch.zeros(0, 3, dtype=torch.int64), empty, empty, reduction=reduction)
        assert loss.shape == ((0,) if reduction == "none" else ())
        assert loss.sum() == 0
        loss.sum().backward()


def test_without_frames_only_the_empty_target_is_possible(backend):
    logits, targets = torch.zeros(0, 2, 7), torch.ones(2, 3, dtype=torch.int64)
    loss = lisa_kernels.ctc_loss(logits, targets, [0, 0], [0, 3], reduction="none")
    assert loss.tolist() == [0, INF]


def test_gradient_rows_sum_to_zero(backend):
    """Adding a number to all logits of a frame changes nothing."""
    kwargs = make_inputs(SPEC, SPEC.cases[2], torch.float32)
    grad = gradient(kwargs.pop("logits"), lambda x: lisa_kernels.ctc_loss(x, **kwargs))[1]
    assert_matches(
        grad.sum(-1) + grad.abs().amax(), torch.full(grad.shape[:2], float(grad.abs().amax())).double(), depth=17
    )


def test_log_probs_and_logits_give_the_same_loss_and_torch_s_gradient(backend):
    """log_softmax is idempotent: ``exp(log_prob) - occupancy`` is what torch returns on log-probabilities."""
    logits, targets, frames, labels = small_problem()
    log_probs = logits.double().log_softmax(-1)
    ours = gradient(log_probs, lambda x: lisa_kernels.ctc_loss(x, targets, frames, labels))
    native = gradient(log_probs, lambda x: F.ctc_loss(x, targets, frames, labels))
    assert_matches(ours[0], native[0], depth=8)
    assert_matches(ours[1], native[1], depth=8)
    assert_matches(lisa_kernels.ctc_loss(logits.double(), targets, frames, labels), ours[0], depth=8)


def test_reductions_are_sums_of_the_single_losses(backend):
    logits, targets, frames, _ = small_problem()
    labels = torch.tensor([3, 0])
    run = lambda reduction: lisa_kernels.ctc_loss(logits, targets, frames, labels, reduction=reduction)  # noqa: E731
    single = run("none").double()
    assert_matches(run("sum"), single.sum())
    assert_matches(run("mean"), (single / torch.tensor([3, 1])).mean())


def test_every_layout_gives_the_same_bits(backend):
    kwargs = make_inputs(SPEC, SPEC.cases[3], torch.float32)
    logits = kwargs.pop("logits")
    expected = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, **kwargs))
    turned = gradient(logits.transpose(0, 1).contiguous(), lambda x: lisa_kernels.ctc_loss(x, **kwargs, layout="NTC"))
    assert same_bits(turned[0], expected[0])
    assert same_bits(turned[1].transpose(0, 1), expected[1])


def test_unbatched_equals_a_batch_of_one(backend):
    logits, targets, _, _ = small_problem()
    one = lisa_kernels.ctc_loss(logits[:, 0], targets[0], 8, 3, reduction="none")
    assert one.shape == ()
    assert same_bits(one, lisa_kernels.ctc_loss(logits[:, :1], targets[:1], [8], [3], reduction="none")[0])


def test_a_more_likely_target_has_a_smaller_loss(backend):
    logits, targets, frames, labels = small_problem()
    logits[:, 0, 1] += 5
    first = lisa_kernels.ctc_loss(logits, targets, frames, labels, reduction="none")
    logits[2, 0, 1] += 1
    assert lisa_kernels.ctc_loss(logits, torch.tensor([[1], [2]]), frames, [1, 1], reduction="none")[0] < first[0]


def test_the_reference_differentiates_twice():
    """Second derivatives exist nowhere else; against finite differences of the first."""
    logits = random_logits(4, 2, 3).requires_grad_()
    targets, frames, labels = torch.tensor([[1, 2], [1, 1]]), torch.tensor([4, 3]), torch.tensor([2, 2])
    assert torch.autograd.gradgradcheck(lambda x: reference.ctc_loss(x, targets, frames, labels), logits)
