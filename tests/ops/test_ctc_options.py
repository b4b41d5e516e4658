"""Options of ``ctc_loss`` beyond what the spec's cases judge: derivatives, gradients in place, terms, threads."""

import itertools

import pytest
import torch

import lisa_kernels
from lisa_kernels.ops.ctc import reference
from lisa_kernels.testing import same_bits
from lisa_kernels.testing.subject import cpu_threads
from tests.ops.ctc_problems import gradient

STAR = -1


def problem(dtype=torch.float32, frames=9, batch=4, classes=7, labels=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(frames, batch, classes, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(1, classes, (batch, labels), generator=generator)
    targets[:, 1] = STAR
    options = {
        "star": STAR,
        "star_penalty": 0.3,
        "log_priors": torch.linspace(-2, 1, classes).log_softmax(0),
        "weights": torch.linspace(0.5, 2, batch),
        "entropy_weight": -0.2,
        "consistency_weight": 0.6,
    }
    lengths = [frames, frames - 2, frames - 1, frames][:batch]
    return logits, (targets, lengths, [labels] * batch), options


def test_gradients_are_those_of_differences(backend):
    """Without consistency, whose other view is taken as constant."""
    logits, rest, options = problem(torch.float64, frames=5, batch=2, classes=4, labels=2)
    options = {**options, "consistency_weight": 0.0}
    assert torch.autograd.gradcheck(
        lambda x: lisa_kernels.ctc_loss(x, *rest, **options), logits.requires_grad_(), fast_mode=True
    )


def test_terms_add_up_to_the_loss(backend):
    logits, rest, options = problem()
    weights, entropy, consistency = (options.pop(n) for n in ("weights", "entropy_weight", "consistency_weight"))
    terms = lisa_kernels.ctc_terms(logits, *rest, entropy=True, consistency=True, **options)
    total = weights * (terms.loss + entropy * terms.entropy + consistency * terms.consistency)
    whole = lisa_kernels.ctc_loss(
        logits, *rest, reduction="none", weights=weights, entropy_weight=entropy, consistency_weight=consistency,
        **options,
    )  # fmt: skip
    assert same_bits(whole, total)
    assert terms.entropy.min() > 0
    assert terms.consistency.min() > 0


def test_terms_not_asked_for_are_empty():
    logits, rest, _ = problem()
    rest[0].clamp_(min=1)
    terms = lisa_kernels.ctc_terms(logits, *rest)
    assert (terms.loss.shape, terms.entropy.shape, terms.consistency.shape) == ((4,), (0,), (0,))


def test_views_that_swap_places_swap_their_consistency():
    logits, rest, _ = problem()
    rest = (rest[0].clamp(min=1), [9, 9, 9, 9], rest[2])
    swap = [2, 3, 0, 1]
    one = lisa_kernels.ctc_terms(logits, *rest, consistency=True).consistency
    other = lisa_kernels.ctc_terms(logits[:, swap], rest[0][swap], *rest[1:], consistency=True).consistency
    assert same_bits(one[swap], other)
    assert (one[:2] != one[2:]).all()


def test_options_give_the_same_bits_on_any_number_of_threads():
    logits, rest, options = problem(frames=60, batch=4, classes=501, labels=12)
    results = []
    for count in (1, 2, 3):
        with cpu_threads(count):
            results.append(gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, **options)))
    for one, other in itertools.pairwise(results):
        assert all(same_bits(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("with_options", [False, True])
@pytest.mark.parametrize("layout", ["TNC", "class first"])
def test_a_gradient_in_place_has_the_same_bits_and_the_memory_of_the_logits(backend, dtype, with_options, layout):
    values, rest, options = problem(dtype)
    if not with_options:
        options = {"star": STAR}

    def run(overwrite):
        hidden = values.clone()
        if layout == "class first":
            hidden = hidden.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        hidden.requires_grad_()
        # A scale of 1: a model's last layer, whose output nobody reads again.
        logits = hidden * torch.ones((), dtype=dtype)
        got = []
        logits.register_hook(lambda g: got.append(g))
        lisa_kernels.ctc_loss(logits, *rest, overwrite_logits=overwrite, **options).backward()
        return hidden.grad, got[0], logits

    beside, _, kept = run(False)
    over, seen, logits = run(True)
    assert same_bits(beside, over)
    assert same_bits(kept.detach().contiguous(), values)
    assert seen.data_ptr() == logits.data_ptr()


def test_a_second_backward_after_a_gradient_in_place_raises():
    values, rest, options = problem()
    logits = values.requires_grad_() * 1.0
    loss = lisa_kernels.ctc_loss(logits, *rest, overwrite_logits=True, **options)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_model_that_needs_its_own_output_notices_a_gradient_in_place():
    values, rest, _ = problem()
    log_probs = values.requires_grad_().log_softmax(-1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        lisa_kernels.ctc_loss(log_probs, *rest, star=STAR, overwrite_logits=True).backward()


def test_logits_that_must_not_be_overwritten_are_refused():
    values, rest, _ = problem()
    with pytest.raises(ValueError, match="logits is a leaf that requires grad"):
        lisa_kernels.ctc_loss(values.clone().requires_grad_(), *rest, star=STAR, overwrite_logits=True)
    shared = (values[:, :1].clone().requires_grad_() * 1.0).expand(-1, 4, -1)
    with pytest.raises(ValueError, match="elements share memory"):
        lisa_kernels.ctc_loss(shared, *rest, star=STAR, overwrite_logits=True)
    compiled = torch.compile(
        lambda x: lisa_kernels.ctc_loss(x * 1.0, *rest, star=STAR, overwrite_logits=True),
        backend="eager",
        fullgraph=True,
    )
    with pytest.raises(Exception, match=r"overwrite_logits is True under torch\.compile"):
        compiled(values.clone().requires_grad_())


def test_options_compile_whole():
    values, (targets, lengths, labels), options = problem()
    rest = (targets, torch.tensor(lengths), torch.tensor(labels))
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: lisa_kernels.ctc_loss(x, *rest, **options), fullgraph=True, backend="aot_eager")
    expected = gradient(values, lambda x: lisa_kernels.ctc_loss(x, *rest, **options))
    assert all(same_bits(a, b) for a, b in zip(gradient(values, compiled), expected, strict=True))


def test_a_star_is_worth_any_class_but_blank():
    """By hand: one frame, one star."""
    logits = torch.tensor([[[0.3, -1.0, 2.0, 0.1]]], dtype=torch.float64)
    loss = lisa_kernels.ctc_loss(logits, torch.tensor([[STAR]]), [1], [1], star=STAR, star_penalty=0.25)
    expected = 0.25 - torch.log1p(-logits[0, 0].softmax(0)[0])
    lisa_kernels.testing.assert_matches(loss, expected, depth=8)


def test_each_option_changes_what_the_definition_says():
    """Else a kernel that left it out would agree."""
    logits, rest, options = problem(torch.float64)
    lengths = [torch.tensor(one) for one in rest[1:]]
    whole = reference.ctc_loss(logits, rest[0], *lengths, **options)
    without = {
        "star_penalty": 0.0,
        "log_priors": None,
        "weights": None,
        "entropy_weight": 0.0,
        "consistency_weight": 0.0,
    }
    assert {"star", *without} == set(options)
    for name, other in without.items():
        changed = reference.ctc_loss(logits, rest[0], *lengths, **{**options, name: other})
        assert (changed - whole).abs() > 1e-3, name


def test_autocast_leaves_the_options_as_they_are():
    """Half logits are computed in fp32 inside; terms come back in fp32."""
    logits, rest, options = problem(torch.bfloat16)
    expected = lisa_kernels.ctc_loss(logits, *rest, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = lisa_kernels.ctc_loss(logits, *rest, **options)
    assert got.dtype == torch.float32
    assert same_bits(got, expected)


def test_nan_in_one_view_spoils_both_of_them_where_both_have_frames(backend):
    logits, rest, options = problem()
    logits[4, 2] = float("nan")
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, reduction="none", **options))
    assert loss.isnan().tolist() == [True, False, True, False]
    # Utterance 0 has 9 frames, its other view 8.
    assert grad[:8, [0, 2]].isnan().all()
    assert grad[8, 0].isfinite().all()
    assert grad[:, [1, 3]].isfinite().all()


def test_consistency_of_a_view_without_frames_or_alignment_is_zero(backend):
    logits, rest, _ = problem()
    options = {"star": STAR, "consistency_weight": 1.0}
    rest = rest[0], [9, 9, 0, 1], [3, 3, 0, 3]
    terms = lisa_kernels.ctc_terms(logits, *rest, star=STAR, consistency=True)
    loss = lisa_kernels.ctc_loss(logits, *rest, reduction="none", zero_infinity=True, **options)
    assert terms.consistency.tolist() == [0, 0, 0, 0]
    assert loss.isfinite().all()


@pytest.mark.parametrize("prior", [-1e6, 1e6])
@pytest.mark.parametrize("frames", [60, 400])
def test_priors_of_any_size_keep_loss_and_gradient_finite(backend, prior, frames):
    """Exponents of states are held in their integers either way."""
    logits, rest, _ = problem(frames=frames, batch=2)
    priors = torch.full((7,), prior)
    loss, grad = gradient(logits, lambda x: lisa_kernels.ctc_loss(x, *rest, star=STAR, log_priors=priors))
    assert loss.isfinite()
    assert grad.isfinite().all()
