"""Forced alignment in plain PyTorch: the definition the kernels are judged by.

The Viterbi search over the 2S+1 states blank, label, blank, ..., blank.  ``forward`` is the same mathematics as the
``reference`` backend.  Search scores are x - max - prior in the computation's dtype and their sums fp64, in this order:
the row's log-sum is the same for every path and stays out of the search, so equal scores are equal in every backend.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lisa_kernels.ops.ctc.trellis import is_valid, pad_targets, valid_logits
from lisa_kernels.ops.ctc_align.alignment import CtcAlignment

_STAY, _ADVANCE, _SKIP = 0, 1, 2
_IMPOSSIBLE = -float("inf")


def ctc_align(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    layout: str = "TNC",
    log_priors: Tensor | None = None,
    star: int | None = None,
    star_penalty: float = 0.0,
    band: int | None = None,
) -> CtcAlignment:
    """Return the alignment, with search scores and log-sums in the dtype of ``logits`` (half precision in fp32).

    Same arguments as ``lisa_kernels.ctc_align``; lengths are tensors on the device of ``logits`` and are trusted.
    """
    logits, unbatched = logits.detach(), logits.dim() == 2
    if unbatched:
        logits = logits.unsqueeze(1)
    elif layout == "NTC":
        logits = logits.transpose(0, 1)
    lengths = logit_lengths.reshape(-1), target_lengths.reshape(-1)
    fields = _align(logits, targets, *lengths, log_priors, blank, star, star_penalty, band, sums_in=logits.dtype)
    if unbatched:
        fields = tuple(field[0] for field in fields)
    return CtcAlignment(*fields, targets.shape[-1])


def forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    log_priors: Tensor | None,
    blank: int,
    star: int | None,
    star_penalty: float,
    band: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return paths, states, scores and total, as ``CtcAlignment`` describes them; log-sums in fp64."""
    options = log_priors, blank, star, star_penalty, band
    return _align(logits, targets, logit_lengths, target_lengths, *options, sums_in=torch.float64)


def _align(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    log_priors: Tensor | None,
    blank: int,
    star: int | None,
    star_penalty: float,
    band: int | None,
    *,
    sums_in: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = pad_targets(targets, target_lengths)
    sums_in = torch.promote_types(sums_in, torch.float32)
    rows = _rows_of(
        logits, logit_lengths, log_priors, blank=blank, star=star, star_penalty=star_penalty, sums_in=sums_in
    )
    lattice = _lattice_of(
        rows, wide, logit_lengths, target_lengths, classes=logits.shape[2], blank=blank, star=star, band=band
    )
    if targets.dim() == 1:
        # Lengths of another total than the concatenated targets leave none of them where it belongs.
        lattice.fault.logical_or_(target_lengths.sum() != targets.numel())
    blanks, labels, moves = _search(lattice)
    positions, on_label, found = _trace(lattice, blanks, labels, moves)
    return _describe(lattice, rows, wide, positions, on_label, found, blank)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Search scores of each row's classes, and of the star in one entry more; fp64 numbers of the dtype ``real``."""

    # [T, N, C + 1]
    table: Tensor
    # [T, N], NaN in rows without a softmax
    log_sum: Tensor
    real: torch.dtype


def _rows_of(
    logits: Tensor,
    logit_lengths: Tensor,
    log_priors: Tensor | None,
    *,
    blank: int,
    star: int | None,
    star_penalty: float,
    sums_in: torch.dtype,
) -> _Rows:
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    plain = valid_logits(logits, logit_lengths).to(real)
    row_max = plain.amax(-1, keepdim=True)
    below_max = plain - row_max
    # -inf where a class is impossible must not turn into NaN: only rows without any softmax are NaN as a whole.
    log_sum = below_max.to(sums_in).exp().sum(-1).log().to(real).double()
    table = below_max if log_priors is None else below_max - log_priors.to(real)
    any_class = torch.full_like(row_max, _IMPOSSIBLE)
    if star is not None and logits.shape[2] > 1:
        is_blank = torch.arange(logits.shape[2], device=logits.device) == blank
        rest = torch.where(is_blank, _IMPOSSIBLE, plain)
        rest_max = rest.amax(-1, keepdim=True)
        rest_sum = (rest - rest_max).to(sums_in).exp().sum(-1, keepdim=True).log().to(real)
        any_class = torch.where(rest_max == _IMPOSSIBLE, any_class, (rest_max - row_max) + rest_sum - star_penalty)
    return _Rows(torch.cat([table, any_class], -1).double(), log_sum, real)


@dataclasses.dataclass(frozen=True)
class _Lattice:
    """Positions 0..S of each utterance: the blank before label j, and label j; S has a blank alone."""

    blank_scores: Tensor  # [T, N, 1]
    label_scores: Tensor  # [T, N, S + 1], impossible at S_n and beyond
    can_skip: Tensor  # [N, S + 1], whether label j may follow label j - 1 without a blank
    logit_lengths: Tensor
    target_lengths: Tensor
    band: int | None
    fault: Tensor  # [N]

    def allowed(self, t: int) -> Tensor:
        """Positions that the target has and the band allows at a frame, ``[N, S + 1]``."""
        position = torch.arange(self.can_skip.shape[1], device=self.can_skip.device)
        inside = position <= self.target_lengths[:, None]
        if self.band is None:
            return inside
        frames = self.logit_lengths.clamp(min=1)[:, None]
        # |j - t S / T| <= band, in whole numbers.
        return inside & ((position * frames - t * self.target_lengths[:, None]).abs() <= self.band * frames)


def _lattice_of(
    rows: _Rows,
    wide: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    classes: int,
    blank: int,
    star: int | None,
    band: int | None,
) -> _Lattice:
    frames, batch, _ = rows.table.shape
    width = wide.shape[1]
    used = torch.arange(width, device=wide.device) < target_lengths[:, None]
    outside = (wide < 0) | (wide >= classes)
    entries = wide.clamp(0, classes - 1)
    if star is not None:
        outside &= wide != star
        entries = torch.where(wide == star, classes, entries)
    fault = (outside & used).any(1)
    fault |= (logit_lengths < 0) | (logit_lengths > frames) | (target_lengths < 0) | (target_lengths > width)
    fault |= (rows.log_sum.isnan() & is_valid(logit_lengths, frames)).any(0)
    label_scores = torch.where(used, rows.table.gather(2, entries.expand(frames, -1, -1)), _IMPOSSIBLE)
    can_skip = torch.zeros(batch, width + 1, dtype=torch.bool, device=wide.device)
    can_skip[:, 1:width] = wide[:, 1:] != wide[:, :-1]
    return _Lattice(
        rows.table[:, :, blank, None],
        torch.nn.functional.pad(label_scores, (0, 1), value=_IMPOSSIBLE),
        can_skip,
        logit_lengths.clamp(0, frames),
        target_lengths.clamp(0, width),
        band,
        fault,
    )


def _shift(x: Tensor) -> Tensor:
    """Move positions up by one."""
    return torch.nn.functional.pad(x, (1, 0), value=_IMPOSSIBLE)[:, :-1]


def _search(lattice: _Lattice) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Return the best score of a path into each position's blank and label at the end, and each frame's moves there."""
    batch, positions = lattice.can_skip.shape
    labels = torch.full((batch, positions), _IMPOSSIBLE, dtype=torch.float64, device=lattice.can_skip.device)
    # Before the first frame: as if in the first blank.
    blanks = labels.clone()
    blanks[:, 0] = 0
    moves = []
    for t, (blank_score, label_score) in enumerate(zip(lattice.blank_scores, lattice.label_scores, strict=True)):
        below = _shift(labels)
        skip = torch.where(lattice.can_skip, below, _IMPOSSIBLE)
        # Each only where it is better: staying wins over advancing, and that over skipping.
        onto_label = torch.where(skip > blanks, _SKIP, _ADVANCE)
        onto_label = torch.where(torch.maximum(skip, blanks) > labels, onto_label, _STAY)
        onto_blank = torch.where(below > blanks, _ADVANCE, _STAY)
        moves.append((onto_blank, onto_label))
        allowed, active = lattice.allowed(t), (t < lattice.logit_lengths)[:, None]
        new_labels = torch.maximum(labels, torch.maximum(blanks, skip)) + label_score
        new_blanks = torch.maximum(blanks, below) + blank_score
        labels = torch.where(active, torch.where(allowed, new_labels, _IMPOSSIBLE), labels)
        blanks = torch.where(active, torch.where(allowed, new_blanks, _IMPOSSIBLE), blanks)
    return blanks, labels, moves


def _trace(
    lattice: _Lattice, blanks: Tensor, labels: Tensor, moves: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return each frame's position and whether it is on the label, ``[T, N]``, and who has a path, ``[N]``."""
    last = lattice.target_lengths[:, None]
    last_blank = blanks.gather(1, last)[:, 0]
    last_label = labels.gather(1, (last - 1).clamp(min=0))[:, 0]
    # Before any frame every path is in the first blank; without labels it stays there.
    label_wins = (last_label >= last_blank) & (last_label > _IMPOSSIBLE)
    found = (torch.maximum(last_label, last_blank) > _IMPOSSIBLE) & ~lattice.fault
    position, on_label = (last[:, 0] - label_wins.long()), label_wins
    rows: list[tuple[Tensor, Tensor]] = []
    for t in reversed(range(len(moves))):
        rows.append((position, on_label))
        onto_blank, onto_label = (move.gather(1, position[:, None])[:, 0] for move in moves[t])
        active = t < lattice.logit_lengths
        move = torch.where(on_label, onto_label, onto_blank)
        leaves_label = on_label & (move == _ADVANCE)
        goes_down = (move == _SKIP) | (~on_label & (move == _ADVANCE))
        position = torch.where(active & goes_down, (position - 1).clamp(min=0), position)
        on_label = torch.where(active & (move != _STAY), ~leaves_label, on_label)
    if not rows:
        return position.new_zeros(0, len(position)), on_label.new_zeros(0, len(position)), found
    positions, labelled = zip(*reversed(rows), strict=True)
    return torch.stack(positions), torch.stack(labelled), found


def _describe(
    lattice: _Lattice, rows: _Rows, wide: Tensor, positions: Tensor, on_label: Tensor, found: Tensor, blank: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From positions ``[T, N]`` to what the op returns, ``[N, T]``."""
    frames = len(positions)
    inside = is_valid(lattice.logit_lengths, frames) & found
    at_label = inside & on_label
    if wide.shape[1]:
        named = wide.expand(frames, -1, -1).gather(2, positions.clamp(max=wide.shape[1] - 1)[:, :, None])[:, :, 0]
    else:
        named = torch.full_like(positions, blank)
    paths = torch.where(inside, torch.where(on_label, named, blank), -1)
    states = torch.where(at_label, positions, -1).int()
    of_label = lattice.label_scores.gather(2, positions[:, :, None])[:, :, 0]
    chosen = torch.where(on_label, of_label, lattice.blank_scores[:, :, 0])
    scores = torch.where(inside, chosen - rows.log_sum, 0.0)
    missing = torch.where(lattice.fault, torch.nan, _IMPOSSIBLE)
    total = torch.where(found, scores.sum(0), missing)
    return (
        paths.t().contiguous(),
        states.t().contiguous(),
        scores.t().to(rows.real).contiguous(),
        total.to(rows.real),
    )
