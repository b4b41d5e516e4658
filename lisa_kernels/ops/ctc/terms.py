"""The terms of the CTC objective for each utterance, and how they become one number: plain torch on ``[N]``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class CtcTerms(NamedTuple):
    """Terms of each utterance, differentiable; fp32, or fp64 for float64 logits.

    Attributes:
        loss: −log p(target | logits) in nats, ``[N]``.
        entropy: Entropy of the frames' distributions, summed over the valid frames, ``[N]``; ``[0]`` if not asked for.
        consistency: Divergence KL(p' ‖ p) from the other view, summed over the frames within both lengths, ``[N]``;
            ``[0]`` if not asked for.
    """

    loss: Tensor
    entropy: Tensor
    consistency: Tensor


def counted_lengths(logit_lengths: Tensor, weights: Tensor | None, consistency_weight: float) -> Tensor:
    """Return lengths with 0 for utterances of weight 0: none of their frames is read, and all get gradient 0.

    With a consistency term lengths stay as they are: the other view looks at those frames.
    """
    if weights is None or consistency_weight:
        return logit_lengths
    return torch.where(weights.reshape(-1) == 0, 0, logit_lengths)


def reduce_terms(
    terms: CtcTerms,
    target_lengths: Tensor,
    reduction: str,
    *,
    weights: Tensor | None,
    entropy_weight: float,
    consistency_weight: float,
    unbatched: bool,
) -> Tensor:
    """Return ``weights * (loss + entropy_weight * entropy + consistency_weight * consistency)``, reduced."""
    total = terms.loss
    if entropy_weight:
        total = total + entropy_weight * terms.entropy
    if consistency_weight:
        total = total + consistency_weight * terms.consistency
    if weights is not None:
        weights = weights.reshape(-1)
        # Left out even if it is inf or NaN.
        total = weights * torch.where(weights == 0, torch.zeros_like(total), total)
    if reduction == "none":
        return total[0] if unbatched else total
    if reduction == "sum" or total.shape[0] == 0:
        return total.sum()
    return (total / target_lengths.clamp(min=1)).mean()
