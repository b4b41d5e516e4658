"""What the CTC tests share: problems, gradients and the definition of decoding."""

import torch

from lisa_kernels.ops.ctc_greedy_decode import reference as greedy_decode
from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.subject import name_outputs


def random_logits(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_targets(classes, *shape, seed=0):
    return torch.randint(1, classes, shape, generator=torch.Generator().manual_seed(seed))


def concatenate(targets, lengths):
    """Return padded targets without their padding, one after another."""
    return torch.cat([row[:length] for row, length in zip(targets, lengths.tolist(), strict=True)])


def gradient(logits, function):
    """Return the loss and its gradient on the logits."""
    leaf = logits.detach().requires_grad_()
    loss = function(leaf)
    return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]


def small_problem(frames=8, labels=3):
    """Two utterances of 5 classes; targets without class 4."""
    logits = random_logits(frames, 2, 5, dtype=torch.float32)
    return logits, torch.tensor([[1, 2, 3], [2, 2, 1]]), [frames] * 2, [labels] * 2


def without_checks(module, logits, targets, frames, labels):
    """Return loss and gradient of the plain loss from a backend's module, below the checks of values."""
    loss, *rest = module.forward(logits, targets, frames, labels, None, 0, None, 0.0, False, False, False, False, True)
    entropy, consistency, *saved = rest
    return loss, module.backward(
        torch.ones_like(loss), entropy, consistency, logits, targets, labels, *saved, 0, None, False, False, [True]
    )


def check_decoding(got, logits, lengths):
    """Ids, lengths, starts, ends and scores of ``ctc_greedy_decode`` with blank 0, as a tuple or named."""
    *labels, scores = name_outputs(got).values()
    *expected, expected_scores = greedy_decode.forward(logits.double(), lengths, 0)
    for name, mine, wanted in zip(("ids", "lengths", "starts", "ends"), labels, expected, strict=True):
        assert torch.equal(mine, wanted), name
    assert_matches(scores, expected_scores, depth=len(logits) + logits.shape[2], name="scores")
