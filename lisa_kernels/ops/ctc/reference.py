"""CTC in plain PyTorch: the definition the kernels are judged by.

``ctc_loss`` is the recursion of Graves et al. (2006), section 4.1, in log space on the 2S+1 states blank, label, blank,
..., blank; autograd differentiates it, twice if asked.  ``forward`` and ``backward`` are the same mathematics as the
``reference`` backend: always in fp64, rounded once.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

# Log of "impossible".  Finite, because logsumexp of -inf alone has a NaN gradient; T of them fit into fp32.
_LOG_ZERO = -1e30


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
) -> Tensor:
    """Return the CTC loss by plain differentiable operations, in the dtype of ``logits`` (half precision in fp32).

    Same arguments as ``lisa_kernels.ctc_loss``; lengths are tensors on the device of ``logits`` and are trusted.
    """
    if logits.dim() == 2:
        logits, unbatched = logits.unsqueeze(1), True
    else:
        logits, unbatched = (logits.transpose(0, 1) if layout == "NTC" else logits), False
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    targets = pad_targets(targets, target_lengths.reshape(-1))
    logit_lengths, target_lengths = logit_lengths.reshape(-1), target_lengths.reshape(-1)
    trellis = _trellis(_valid_log_probs(logits, logit_lengths), targets, logit_lengths, target_lengths, blank)
    loss = _loss(trellis, _alphas(trellis, logit_lengths), _final(trellis, logit_lengths, target_lengths))
    # Adds 0 and keeps the graph where there is no frame to depend on.
    loss = loss + logits.flatten()[:0].sum()
    if zero_infinity:
        loss = torch.where(loss == float("inf"), torch.zeros_like(loss), loss)
    if reduction == "mean":
        return (loss / target_lengths.clamp(min=1)).mean() if loss.numel() else loss.sum()
    if reduction == "sum":
        return loss.sum()
    return loss[0] if unbatched else loss


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


def _valid_log_probs(logits: Tensor, logit_lengths: Tensor) -> Tensor:
    """Log-softmax ``[T, N, C]``; frames beyond the length, which may hold NaN, are taken as zeros."""
    frames = torch.arange(logits.shape[0], device=logits.device)
    valid = frames[:, None, None] < logit_lengths[None, :, None]
    return torch.where(valid, logits, torch.zeros_like(logits)).log_softmax(-1)


@dataclasses.dataclass(frozen=True)
class _Trellis:
    """The 2S+1 states of each utterance and how they may follow each other."""

    # Class of each state, [N, 2S+1]; labels stand at odd positions.
    states: Tensor
    # Whether a state may be entered from two states back, [N, 2S+1].
    can_skip: Tensor
    # Log-probability of each state's class, [T, N, 2S+1].
    emissions: Tensor
    # Utterances with a length or label out of range, [N].
    fault: Tensor

    def enter(self, alpha: Tensor) -> Tensor:
        """Log-sum over the states that a path may have been in one frame earlier."""
        two_back = torch.where(self.can_skip, _shift(alpha, 2), _LOG_ZERO)
        return torch.stack([alpha, _shift(alpha, 1), two_back]).logsumexp(0)

    def leave(self, beta: Tensor) -> Tensor:
        """Log-sum over the states that a path may be in one frame later."""
        two_on = _shift(torch.where(self.can_skip, beta, _LOG_ZERO), -2)
        return torch.stack([beta, _shift(beta, -1), two_on]).logsumexp(0)


def _shift(x: Tensor, by: int) -> Tensor:
    """Move the last axis up (down for negative ``by``), filling with "impossible"."""
    width = x.shape[-1]
    if by > 0:
        return torch.nn.functional.pad(x, (by, 0), value=_LOG_ZERO)[..., :width]
    return torch.nn.functional.pad(x, (0, -by), value=_LOG_ZERO)[..., -by:]


def _trellis(log_probs: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int) -> _Trellis:
    frames, batch, classes = log_probs.shape
    width = targets.shape[1]
    # A label that no class has makes the utterance NaN, like the kernels: a GPU cannot raise without a sync.
    used = torch.arange(width, device=targets.device) < target_lengths[:, None]
    fault = (((targets < 0) | (targets >= classes)) & used).any(1)
    fault |= (logit_lengths < 0) | (logit_lengths > frames) | (target_lengths < 0) | (target_lengths > width)

    states = torch.full((batch, 2 * width + 1), blank, device=targets.device, dtype=torch.long)
    states[:, 1::2] = targets.clamp(0, classes - 1)
    # A label may follow the label before it without a blank if they differ; blanks (even positions) never skip.
    can_skip = torch.zeros_like(states, dtype=torch.bool)
    can_skip[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    # Clamped, so that classes at -inf stay impossible without NaN gradients.
    emissions = log_probs.gather(2, states.expand(frames, -1, -1)).clamp(min=_LOG_ZERO)
    return _Trellis(states, can_skip, emissions, fault)


def _alphas(trellis: _Trellis, logit_lengths: Tensor) -> Tensor:
    """Log-probability of all path beginnings that end in each state, ``[T+1, N, 2S+1]``; row 0 is before any frame."""
    alpha = torch.full_like(trellis.states, 0, dtype=trellis.emissions.dtype)
    # Before the first frame: as if in the first blank.
    alpha = torch.where(torch.arange(alpha.shape[1], device=alpha.device) == 0, alpha, _LOG_ZERO)
    rows = [alpha]
    for t, emission in enumerate(trellis.emissions):
        alpha = torch.where((t < logit_lengths)[:, None], trellis.enter(alpha) + emission, alpha)
        rows.append(alpha)
    return torch.stack(rows)


def _final(trellis: _Trellis, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """0 for the states a path may end in, "impossible" for others, ``[N, 2S+1]``: last blank, last label.

    Without frames a path is still before the first, which only the empty target allows.
    """
    width = trellis.states.shape[1]
    last = (2 * target_lengths.clamp(0, width // 2))[:, None]
    state = torch.arange(width, device=last.device)
    ends = (state == last) | ((state == last - 1) & (logit_lengths > 0)[:, None])
    return torch.where(ends, 0.0, _LOG_ZERO).to(trellis.emissions.dtype)


def _loss(trellis: _Trellis, alphas: Tensor, final: Tensor) -> Tensor:
    """Negative log-likelihood ``[N]``; inf without an alignment, NaN for a fault."""
    loss = -(alphas[-1] + final).logsumexp(1)
    loss = torch.where(loss > -0.5 * _LOG_ZERO, float("inf"), loss)
    return torch.where(trellis.fault, float("nan"), loss)


def _occupancy(
    trellis: _Trellis, alphas: Tensor, final: Tensor, loss: Tensor, logit_lengths: Tensor, classes: int
) -> Tensor:
    """Probability, given the target, that a path is in each class at each frame, ``[T, N, C]``."""
    frames, batch, _ = trellis.emissions.shape
    sums = alphas.new_zeros(frames, batch, classes)
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


def forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    zero_infinity: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return loss, row_max, log_sum and occupancy as the op's README defines them."""
    frames, _, classes = logits.shape
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    wide = pad_targets(targets, target_lengths)
    trellis = _trellis(_valid_log_probs(logits.double(), logit_lengths), wide, logit_lengths, target_lengths, blank)
    if targets.dim() == 1:
        # Lengths of another total than the concatenated targets leave none of them where it belongs.
        trellis.fault.logical_or_(target_lengths.sum() != targets.numel())
    alphas = _alphas(trellis, logit_lengths)
    final = _final(trellis, logit_lengths, target_lengths)
    loss = _loss(trellis, alphas, final)

    valid = torch.arange(frames, device=logits.device)[:, None] < logit_lengths
    plain = torch.where(valid[:, :, None], logits, torch.zeros_like(logits)).to(real)
    row_max = plain.amax(-1)
    log_sum = (plain.double() - row_max.double()[:, :, None]).exp().sum(-1).log()
    log_sum = torch.where(torch.isnan(loss), torch.nan, log_sum)
    log_sum = torch.where(valid & (loss != float("inf")), log_sum, torch.inf).to(real)
    packed = logits.new_empty(0, dtype=real)
    if save:
        by_class = _occupancy(trellis, alphas, final, loss, logit_lengths, classes).to(real)
        packed = _pack(by_class, targets, wide, target_lengths, blank)
    if zero_infinity:
        loss = torch.where(loss == float("inf"), 0, loss)
    return loss.to(real), row_max, log_sum, packed


def backward(
    grad_loss: Tensor,
    logits: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    row_max: Tensor,
    log_sum: Tensor,
    occupancy: Tensor,
    blank: int,
    needs: list[bool],
) -> Tensor:
    """Return ``grad_loss * (softmax(logits) - occupancy)``, strided like ``logits``."""
    wide = pad_targets(targets, target_lengths)
    by_class = _unpack(occupancy.double(), targets, wide, target_lengths, blank, logits.shape)
    softmax = ((logits.double() - row_max.double()[:, :, None]) - log_sum.double()[:, :, None]).exp()
    grad = grad_loss.double()[:, None] * (softmax - by_class)
    # +inf marks frames without gradient (padding, infeasible), whatever the logits hold there.
    grad = torch.where((log_sum == float("inf"))[:, :, None], torch.zeros_like(grad), grad)
    return torch.empty_like(logits).copy_(grad)


def stored_by_class(targets: Tensor, batch: int, classes: int) -> bool:
    """Whether occupancies are stored for each class (``[N, T, C]``) because positions would not be fewer."""
    return targets.numel() + batch >= batch * classes


def _slots(targets: Tensor, wide: Tensor, target_lengths: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Where blank and each label of each frame stand in the packed occupancy, ``[N, T, S+1]``, and which exist."""
    batch, width = wide.shape
    lengths = target_lengths.clamp(0, width)
    starts = lengths.cumsum(0) - lengths if targets.dim() == 1 else torch.arange(batch, device=wide.device) * width
    base = frames * (starts + torch.arange(batch, device=wide.device))
    frame = torch.arange(frames, device=wide.device)
    slot = torch.arange(width + 1, device=wide.device)
    index = base[:, None, None] + frame[None, :, None] * (lengths + 1)[:, None, None] + slot
    return index, (slot <= lengths[:, None])[:, None, :].expand(index.shape)


def _pack(by_class: Tensor, targets: Tensor, wide: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """From ``[T, N, C]`` to the packed form; a class that occurs again gets all at its first position."""
    frames, batch, classes = by_class.shape
    if stored_by_class(targets, batch, classes):
        return by_class.transpose(0, 1).reshape(-1)
    index, exists = _slots(targets, wide, target_lengths, frames)
    ids = torch.nn.functional.pad(wide, (1, 0), value=blank).clamp(0, classes - 1)
    repeated = (ids[:, :, None] == ids[:, None, :]).tril(-1).any(-1)
    values = by_class.transpose(0, 1).gather(2, ids[:, None, :].expand(index.shape))
    values = torch.where(repeated[:, None, :], torch.zeros_like(values), values)
    packed = values.new_zeros(frames * (targets.numel() + batch) + 1)
    # What does not exist goes to one spare place at the end.
    packed[torch.where(exists, index, packed.numel() - 1)] = values
    return packed[:-1].clone()


def _unpack(
    occupancy: Tensor, targets: Tensor, wide: Tensor, target_lengths: Tensor, blank: int, shape: torch.Size
) -> Tensor:
    """From the packed form to ``[T, N, C]``."""
    frames, batch, classes = shape
    if stored_by_class(targets, batch, classes):
        return occupancy.reshape(batch, frames, classes).transpose(0, 1)
    index, exists = _slots(targets, wide, target_lengths, frames)
    ids = torch.nn.functional.pad(wide, (1, 0), value=blank).clamp(0, classes - 1)
    values = torch.where(exists, occupancy[torch.where(exists, index, 0)], 0) if index.numel() else index.to(occupancy)
    sums = occupancy.new_zeros(batch, frames, classes)
    return sums.scatter_add_(2, ids[:, None, :].expand(index.shape), values).transpose(0, 1)
