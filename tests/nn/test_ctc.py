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
    assert vars(ours).keys() == vars(theirs).keys()
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
