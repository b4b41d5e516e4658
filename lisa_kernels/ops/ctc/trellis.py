"""The recursion of CTC in log space, in plain differentiable PyTorch: what ``reference.py`` is made of."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

# Log of "impossible".  Finite, because logsumexp of -inf alone has a NaN gradient; T of them fit into fp32.
LOG_ZERO = -1e30


def pad_targets(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return targets as ``[N, S]``, from padded or concatenated ones; entries beyond a length are arbitrary."""
    if targets.dim() == 2:
        return targets.long()
    # On a GPU the longest target is not known without a sync: all of them fit into their sum.
    on_host = target_lengths.device.type == "cpu" and target_lengths.numel()
    width = int(target_lengths.max()) if on_host else targets.numel()
    starts = target_lengths.cumsum(0) - target_lengths
    positions = starts[:, None] + torch.arange(width, device=targets.device)
    if targets.numel() == 0:
        return targets.new_zeros(positions.shape, dtype=torch.long)
    return targets.long()[positions.clamp(0, targets.numel() - 1)]


def is_valid(logit_lengths: Tensor, frames: int) -> Tensor:
    """Whether a frame lies within its utterance's length, ``[T, N]``."""
    return torch.arange(frames, device=logit_lengths.device)[:, None] < logit_lengths


def valid_logits(logits: Tensor, logit_lengths: Tensor) -> Tensor:
    """Logits ``[T, N, C]``; frames beyond the length, which may hold NaN, are taken as zeros."""
    valid = is_valid(logit_lengths, logits.shape[0])
    return torch.where(valid[:, :, None], logits, torch.zeros_like(logits))


def emission_table(
    logits: Tensor, *, log_priors: Tensor | None = None, star: int | None = None, star_penalty: float = 0.0, blank: int
) -> Tensor:
    """Return log-emissions of each class, ``[T, N, C]``, with one more entry for the star where there is one.

    A class: its log-probability, less its log-prior.  The star: log(1 - p_blank) - penalty, from the classes other than
    blank on their own; 1 - p_blank itself would cancel.
    """
    table = logits.log_softmax(-1)
    if log_priors is not None:
        table = table - log_priors.to(table)
    if star is not None:
        is_blank = torch.arange(logits.shape[-1], device=logits.device) == blank
        # Clamped, as below: classes at -inf stay impossible without NaN gradients.
        rest = torch.where(is_blank, LOG_ZERO, logits.clamp(min=LOG_ZERO)).logsumexp(-1)
        any_class = rest - logits.logsumexp(-1) - star_penalty
        table = torch.cat([table, any_class[:, :, None]], -1)
    # Clamped, so that classes at -inf stay impossible without NaN gradients.
    return table.clamp(min=LOG_ZERO)


@dataclasses.dataclass(frozen=True)
class Trellis:
    """The 2S+1 states of each utterance and how they may follow each other."""

    # Entry of the emission table of each state, [N, 2S+1]; labels stand at odd positions.
    states: Tensor
    # Whether a state may be entered from two states back, [N, 2S+1].
    can_skip: Tensor
    # Log-emission of each state, [T, N, 2S+1].
    emissions: Tensor
    # Utterances with a length or label out of range, [N].
    fault: Tensor

    def enter(self, alpha: Tensor) -> Tensor:
        """Log-sum over the states that a path may have been in one frame earlier."""
        two_back = torch.where(self.can_skip, _shift(alpha, 2), LOG_ZERO)
        return torch.stack([alpha, _shift(alpha, 1), two_back]).logsumexp(0)

    def leave(self, beta: Tensor) -> Tensor:
        """Log-sum over the states that a path may be in one frame later."""
        two_on = _shift(torch.where(self.can_skip, beta, LOG_ZERO), -2)
        return torch.stack([beta, _shift(beta, -1), two_on]).logsumexp(0)


def _shift(x: Tensor, by: int) -> Tensor:
    """Move the last axis up (down for negative ``by``), filling with "impossible"."""
    width = x.shape[-1]
    if by > 0:
        return torch.nn.functional.pad(x, (by, 0), value=LOG_ZERO)[..., :width]
    return torch.nn.functional.pad(x, (0, -by), value=LOG_ZERO)[..., -by:]


def build_trellis(
    table: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    classes: int,
    blank: int,
    star: int | None = None,
) -> Trellis:
    """Return the trellis of padded targets over an emission table; the star is entry ``classes`` of it."""
    frames, batch, _ = table.shape
    width = targets.shape[1]
    # A label that no class has makes the utterance NaN, like the kernels: a GPU cannot raise without a sync.
    used = torch.arange(width, device=targets.device) < target_lengths[:, None]
    outside = (targets < 0) | (targets >= classes)
    labels = targets.clamp(0, classes - 1)
    if star is not None:
        outside &= targets != star
        labels = torch.where(targets == star, classes, labels)
    fault = (outside & used).any(1)
    fault |= (logit_lengths < 0) | (logit_lengths > frames) | (target_lengths < 0) | (target_lengths > width)

    states = torch.full((batch, 2 * width + 1), blank, device=targets.device, dtype=torch.long)
    states[:, 1::2] = labels
    # A label may follow the label before it without a blank if they differ; blanks (even positions) never skip.
    can_skip = torch.zeros_like(states, dtype=torch.bool)
    can_skip[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    return Trellis(states, can_skip, table.gather(2, states.expand(frames, -1, -1)), fault)


def alphas_of(trellis: Trellis, logit_lengths: Tensor) -> Tensor:
    """Log-probability of all path beginnings that end in each state, ``[T+1, N, 2S+1]``; row 0 is before any frame."""
    alpha = torch.full_like(trellis.states, 0, dtype=trellis.emissions.dtype)
    # Before the first frame: as if in the first blank.
    alpha = torch.where(torch.arange(alpha.shape[1], device=alpha.device) == 0, alpha, LOG_ZERO)
    rows = [alpha]
    for t, emission in enumerate(trellis.emissions):
        alpha = torch.where((t < logit_lengths)[:, None], trellis.enter(alpha) + emission, alpha)
        rows.append(alpha)
    return torch.stack(rows)


def final_of(trellis: Trellis, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """0 for the states a path may end in, "impossible" for others, ``[N, 2S+1]``: last blank, last label.

    Without frames a path is still before the first, which only the empty target allows.
    """
    width = trellis.states.shape[1]
    last = (2 * target_lengths.clamp(0, width // 2))[:, None]
    state = torch.arange(width, device=last.device)
    ends = (state == last) | ((state == last - 1) & (logit_lengths > 0)[:, None])
    return torch.where(ends, 0.0, LOG_ZERO).to(trellis.emissions.dtype)


def loss_of(trellis: Trellis, alphas: Tensor, final: Tensor) -> Tensor:
    """Negative log-likelihood ``[N]``; inf without an alignment, NaN for a fault."""
    loss = -(alphas[-1] + final).logsumexp(1)
    loss = torch.where(loss > -0.5 * LOG_ZERO, float("inf"), loss)
    return torch.where(trellis.fault, float("nan"), loss)


def occupancy_of(
    trellis: Trellis, alphas: Tensor, final: Tensor, loss: Tensor, logit_lengths: Tensor, entries: int
) -> Tensor:
    """Probability, given the target, that a path is in each entry of the emission table, ``[T, N, entries]``."""
    frames, batch, _ = trellis.emissions.shape
    sums = alphas.new_zeros(frames, batch, entries)
    beta = final
    for t in reversed(range(frames)):
        if t + 1 < frames:
            moved = trellis.leave(beta + trellis.emissions[t + 1])
            beta = torch.where((t + 1 < logit_lengths)[:, None], moved, final)
        # Normalised by its own sum: exp(alpha + beta + loss) would carry the rounding of the whole loss.
        posterior = (alphas[t + 1] + beta).softmax(1)
        inside = (t < logit_lengths) & loss.isfinite()
        sums[t].scatter_add_(1, trellis.states, torch.where(inside[:, None], posterior, 0))
    return sums
