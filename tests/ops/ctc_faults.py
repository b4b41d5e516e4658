"""Faults in device values, which a GPU cannot raise for: NaN for their utterance, and nothing else changes."""

import torch

from lisa_kernels.testing import same_bits
from tests.ops.ctc_problems import small_problem, without_checks

FAULTS = {
    "label beyond the classes": {"targets": torch.tensor([[1, 2, 3], [2, 5, 1]])},
    "negative label": {"targets": torch.tensor([[1, 2, 3], [2, -7, 1]])},
    "more frames than T": {"logit_lengths": torch.tensor([8, 9])},
    "negative frames": {"logit_lengths": torch.tensor([8, -1])},
    "more labels than S": {"target_lengths": torch.tensor([3, 4])},
    "negative labels": {"target_lengths": torch.tensor([3, -1])},
}


def _without_and_with(fault, run):
    logits, targets, frames, labels = small_problem()
    arguments = {"targets": targets, "logit_lengths": torch.tensor(frames), "target_lengths": torch.tensor(labels)}
    return [run(logits, *changed.values()) for changed in (arguments, arguments | FAULTS[fault])]


def check_loss(module, fault):
    """Loss and gradient of a backend's module, below the checks of values."""
    runs = _without_and_with(fault, lambda *arguments: without_checks(module, *arguments))
    (clean, clean_grad), (loss, grad) = runs
    assert loss[1].isnan()
    # No frame lies within a negative length: like padding, all get gradient 0.
    assert (grad[:, 1] == 0).all() if fault == "negative frames" else grad[:, 1].isnan().any()
    assert same_bits(loss[0], clean[0])
    assert same_bits(grad[:, 0], clean_grad[:, 0])


def check_alignment(module, fault):
    """Paths, states, scores and total of a backend's module, below the checks of values."""
    clean, got = _without_and_with(fault, lambda *arguments: module.forward(*arguments, None, 0, None, 0.0, None))
    paths, states, scores, total = got
    assert total.isnan().tolist() == [False, True]
    assert (paths[1] == -1).all()
    assert (states[1] == -1).all()
    assert (scores[1] == 0).all()
    for mine, expected in zip(got, clean, strict=True):
        assert same_bits(mine[0], expected[0])
