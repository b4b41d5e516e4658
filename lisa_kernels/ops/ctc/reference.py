"""CTC in plain PyTorch: the definition the kernels are judged by.

``ctc_loss`` and ``ctc_terms`` are the recursion of Graves et al. (2006), section 4.1, in log space on the 2S+1 states
blank, label, blank, ..., blank; autograd differentiates it, twice if asked.  ``forward`` and ``backward`` are the same
mathematics as the ``reference`` backend: always in fp64, rounded once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.ops.ctc.packing import pack, stored_by_class, unpack
from lisa_kernels.ops.ctc.terms import CtcTerms, counted_lengths, reduce_terms
from lisa_kernels.ops.ctc.trellis import (
    alphas_of,
    build_trellis,
    emission_table,
    final_of,
    is_valid,
    loss_of,
    occupancy_of,
    pad_targets,
    valid_logits,
)

__all__ = ["backward", "ctc_loss", "ctc_terms", "forward", "pad_targets", "stored_by_class"]
INFINITY = float("inf")


def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    weights: Tensor | None = None,
    entropy_weight: float = 0.0,
    consistency_weight: float = 0.0,
    overwrite_logits: bool = False,
) -> Tensor:
    """Return the CTC loss by plain differentiable operations, in the dtype of ``logits`` (half precision in fp32).

    Same arguments as ``lisa_kernels.ctc_loss``; lengths are tensors on the device of ``logits`` and are trusted.
    ``overwrite_logits`` changes nothing here.
    """
    lengths = counted_lengths(logit_lengths.reshape(-1), weights, consistency_weight)
    terms = _terms(
        logits, targets, lengths, target_lengths, blank=blank, zero_infinity=zero_infinity, layout=layout,
        log_priors=log_priors, star=star, star_penalty=star_penalty, entropy=entropy_weight != 0,
        consistency=consistency_weight != 0,
    )  # fmt: skip
    return reduce_terms(
        terms, target_lengths.reshape(-1), reduction, weights=weights, entropy_weight=entropy_weight,
        consistency_weight=consistency_weight, unbatched=logits.dim() == 2,
    )  # fmt: skip


def ctc_terms(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    entropy: bool = False,
    consistency: bool = False,
    overwrite_logits: bool = False,
) -> CtcTerms:
    """Return ``lisa_kernels.ctc_terms`` by plain differentiable operations; see ``ctc_loss``."""
    return _terms(
        logits, targets, logit_lengths, target_lengths, blank=blank, zero_infinity=zero_infinity, layout=layout,
        log_priors=log_priors, star=star, star_penalty=star_penalty, entropy=entropy, consistency=consistency,
    )  # fmt: skip


def _terms(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int,
    zero_infinity: bool,
    layout: str,
    log_priors: Tensor | None,
    star: int | None,
    star_penalty: float,
    entropy: bool,
    consistency: bool,
) -> CtcTerms:
    if logits.dim() == 2:
        logits = logits.unsqueeze(1)
    elif layout == "NTC":
        logits = logits.transpose(0, 1)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    logit_lengths, target_lengths = logit_lengths.reshape(-1), target_lengths.reshape(-1)
    targets = pad_targets(targets, target_lengths)
    plain = valid_logits(logits, logit_lengths)
    table = emission_table(plain, log_priors=log_priors, star=star, star_penalty=star_penalty, blank=blank)
    trellis = build_trellis(
        table, targets, logit_lengths, target_lengths, classes=logits.shape[-1], blank=blank, star=star
    )
    loss = loss_of(trellis, alphas_of(trellis, logit_lengths), final_of(trellis, logit_lengths, target_lengths))
    # Adds 0 and keeps the graph where there is no frame to depend on.
    loss = loss + logits.flatten()[:0].sum()

    # NaN marks the frames of an utterance with a fault, as log_sum does in the kernels.
    counts = is_valid(logit_lengths, len(logits)) & (loss != INFINITY)
    mark = torch.where(counts & loss.isnan(), torch.nan, 0.0)
    log_probs, none = plain.log_softmax(-1), loss.new_empty(0)
    entropies = torch.where(counts, _row_entropy(log_probs) + mark, 0).sum(0) if entropy else none
    divergences = none
    if consistency:
        both = counts & _partner(counts)
        divergences = torch.where(both, _row_divergence(log_probs) + mark + _partner(mark), 0).sum(0)
    if zero_infinity:
        loss = torch.where(loss == INFINITY, torch.zeros_like(loss), loss)
    return CtcTerms(loss, entropies, divergences)


def _row_entropy(log_probs: Tensor) -> Tensor:
    """Entropy of each frame, ``[T, N]``; a class of probability 0 counts 0."""
    log_probs = log_probs.clamp(min=-1e30)
    return -(log_probs.exp() * log_probs).sum(-1)


def _row_divergence(log_probs: Tensor) -> Tensor:
    """KL(p' ‖ p) of each frame, ``[T, N]``; p' is the other view's distribution, taken as constant."""
    other = _partner(log_probs).detach()
    p = other.exp()
    return (p * torch.where(p == 0, 0, other - log_probs)).sum(-1)


def _partner(x: Tensor) -> Tensor:
    """Entries of the other view of each utterance: n + N/2, modulo N, along dimension 1."""
    return x.roll(x.shape[1] // 2, 1)


def forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    log_priors: Tensor | None,
    blank: int,
    star: int | None,
    star_penalty: float,
    zero_infinity: bool,
    with_entropy: bool,
    with_consistency: bool,
    overwrite_logits: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """Return the terms and what backward needs, as the op's README defines them."""
    frames, _, classes = logits.shape
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    wide = pad_targets(targets, target_lengths)
    plain = valid_logits(logits.double(), logit_lengths)
    table = emission_table(plain, log_priors=log_priors, star=star, star_penalty=star_penalty, blank=blank)
    trellis = build_trellis(table, wide, logit_lengths, target_lengths, classes=classes, blank=blank, star=star)
    if targets.dim() == 1:
        # Lengths of another total than the concatenated targets leave none of them where it belongs.
        trellis.fault.logical_or_(target_lengths.sum() != targets.numel())
    alphas = alphas_of(trellis, logit_lengths)
    final = final_of(trellis, logit_lengths, target_lengths)
    loss = loss_of(trellis, alphas, final)

    row_max = plain.amax(-1)
    log_sum = (plain - row_max[:, :, None]).exp().sum(-1).log()
    log_sum = torch.where(torch.isnan(loss), torch.nan, log_sum)
    log_sum = torch.where(is_valid(logit_lengths, frames) & (loss != INFINITY), log_sum, INFINITY)

    none = logits.new_empty(0, dtype=torch.float64)
    row_entropy, entropy, consistency, star_rows, packed = none, none, none, none, none
    log_probs, counts, mark = plain.log_softmax(-1), log_sum != INFINITY, torch.where(log_sum.isnan(), torch.nan, 0.0)
    if with_entropy:
        row_entropy = _row_entropy(log_probs)
        entropy = torch.where(counts, row_entropy + mark, 0).sum(0)
    if with_consistency:
        rows = _row_divergence(log_probs) + mark + _partner(mark)
        consistency = torch.where(counts & _partner(counts), rows, 0).sum(0)
    if save:
        by_entry = occupancy_of(trellis, alphas, final, loss, logit_lengths, table.shape[-1])
        packed = pack(by_entry[:, :, :classes].to(real), targets, wide, target_lengths, blank)
    if star is not None:
        share = by_entry[:, :, classes] if save else torch.zeros_like(row_max)
        star_rows = _star_rows(plain, share, blank)
    if zero_infinity:
        loss = torch.where(loss == INFINITY, 0, loss)
    outputs = (loss, entropy, consistency, row_max, log_sum, row_entropy, star_rows, packed)
    return tuple(output.to(real) for output in outputs)


def _star_rows(logits: Tensor, share: Tensor, blank: int) -> Tensor:
    """The largest logit but blank's (0 where all are -inf), and log(share of the star) - log-sum below it."""
    rest = logits.clone()
    rest[:, :, blank] = -INFINITY
    rest_max = rest.amax(-1)
    rest_max = torch.where(rest_max == -INFINITY, 0, rest_max)
    rest_sum = (rest - rest_max[:, :, None]).exp().sum(-1).log()
    return torch.stack([rest_max, torch.where(share == 0, -INFINITY, share.log() - rest_sum)])


def backward(
    grad_loss: Tensor,
    grad_entropy: Tensor,
    grad_consistency: Tensor,
    logits: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    row_max: Tensor,
    log_sum: Tensor,
    row_entropy: Tensor,
    star_rows: Tensor,
    occupancy: Tensor,
    blank: int,
    star: int | None,
    with_entropy: bool,
    with_consistency: bool,
    needs: list[bool],
) -> Tensor:
    """Return the gradient of the three terms, strided like ``logits``."""
    wide = pad_targets(targets, target_lengths)
    idle = (log_sum == INFINITY)[:, :, None]
    plain = torch.where(idle, 0, logits.double())
    log_probs = (plain - row_max.double()[:, :, None]) - log_sum.double()[:, :, None]
    p = log_probs.exp()
    difference = p - unpack(occupancy.double(), targets, wide, target_lengths, blank, logits.shape)
    if star is not None:
        rest_max, share = star_rows.double()[:, :, :, None]
        starred = ((plain - rest_max) + share).exp()
        starred[:, :, blank] = 0
        difference = difference - starred
    grad = grad_loss.double()[:, None] * difference
    if with_entropy:
        surprise = torch.where(p == 0, 0, p * (log_probs + row_entropy.double()[:, :, None]))
        grad = grad - grad_entropy.double()[:, None] * surprise
    if with_consistency:
        grad = grad + grad_consistency.double()[:, None] * torch.where(_partner(idle), 0, p - _partner(p))
    # +inf marks frames without gradient (padding, infeasible), whatever the logits hold there.
    grad = torch.where(idle, torch.zeros_like(grad), grad)
    return torch.empty_like(logits).copy_(grad)


def backward_overwriting(*args: Any) -> None:
    """Write what ``backward`` returns over ``logits``."""
    logits = args[3]
    logits.copy_(backward(*args))
