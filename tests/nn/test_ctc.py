"""``nn.CTCLoss`` in the place of ``torch.nn.CTCLoss``."""

import pytest
import torch

import lisa_kernels
from lisa_kernels import nn
from lisa_kernels.testing import assert_matches


@pytest.fixture
def problem():
    logits = torch.randn(12, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return logits.log_softmax(-1), torch.tensor([[1, 2, 0], [3, 3, 4], [5, 0, 0]]), (12, 9, 4), (2, 3, 1)


@pytest.mark.parametrize(
    "options", [{}, {"reduction": "none"}, {"reduction": "sum", "zero_infinity": True}, {"blank": 6}]
)
def test_same_call_same_loss_as_torch(problem, options):
    ours, theirs = nn.CTCLoss(**options)(*problem), torch.nn.CTCLoss(**options)(*problem)
    assert_matches(ours, theirs, depth=12)


def test_the_arguments_may_be_positional_as_in_torch():
    ours, theirs = nn.CTCLoss(3, "sum", True), torch.nn.CTCLoss(3, "sum", True)
    assert vars(theirs).keys() <= vars(ours).keys()
    assert (ours.blank, ours.reduction, ours.zero_infinity) == (theirs.blank, theirs.reduction, theirs.zero_infinity)


def test_the_module_is_the_function_and_shows_its_options(problem):
    module = nn.CTCLoss(blank=6, reduction="none")
    assert torch.equal(module(*problem), lisa_kernels.ctc_loss(*problem, blank=6, reduction="none"))
    assert repr(module) == "CTCLoss(blank=6, reduction='none', zero_infinity=False)"
    assert not list(module.parameters())


def test_log_softmax_in_front_may_go(problem):
    logits = 3 * problem[0] + 5
    before = nn.CTCLoss()(logits.log_softmax(-1), *problem[1:])
    assert_matches(nn.CTCLoss()(logits, *problem[1:]), before, depth=12)


def test_every_option_of_the_function_is_one_of_the_module(problem):
    logits = torch.cat([problem[0], problem[0].flip(1)], 1)
    targets = torch.cat([problem[1], problem[1].flip(0)])
    targets[0, 1] = -1
    lengths = [lengths + lengths[::-1] for lengths in problem[2:]]
    priors, weights = torch.linspace(-2, 1, 7).log_softmax(0), torch.linspace(0.5, 1, 6)
    options = {
        "reduction": "sum", "star": -1, "star_penalty": 0.3, "entropy_weight": 0.2, "consistency_weight": 0.4,
        "log_priors": priors,
    }  # fmt: skip
    module = nn.CTCLoss(**options)
    expected = lisa_kernels.ctc_loss(logits, targets, *lengths, weights=weights, **options)
    assert torch.equal(module(logits, targets, *lengths, weights=weights), expected)
    turned = nn.CTCLoss(layout="NTC", **options)
    assert torch.equal(turned(logits.transpose(0, 1), targets, *lengths, weights=weights), expected)
    assert "star=-1, star_penalty=0.3" in repr(module)


def test_priors_move_with_the_module_and_are_no_part_of_its_state():
    module = nn.CTCLoss(log_priors=torch.zeros(4)).double()
    assert module.log_priors.dtype == torch.float64
    assert not module.state_dict()


def test_the_module_writes_gradients_over_a_model_s_output(problem):
    hidden = problem[0].clone().requires_grad_()
    logits = hidden * 1.0
    nn.CTCLoss(overwrite_logits=True)(logits, *problem[1:]).backward()
    assert torch.equal(logits.detach(), hidden.grad)
