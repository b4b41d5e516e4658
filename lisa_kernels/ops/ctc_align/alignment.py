"""What an alignment is, and where in it each label stands."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class CtcAlignment:
    """The likeliest path through each target; without the dimension N for one unbatched utterance.

    An utterance without an alignment (too few frames for its labels, a path that the band or -inf forbids, or bad
    input) holds what frames beyond a length hold, and says in ``total`` which it is.

    Attributes:
        paths: ``[N, T]`` int64, the class of each frame, or the star's value; -1 in frames beyond the length.
        states: ``[N, T]`` int32, the label's position in the target; -1 in blank frames and beyond the length.
        scores: ``[N, T]``, the emission of each frame in nats: log-probability of its class, less the class's
            log-prior; the star's own.  0 beyond the length.  fp32 (fp64 for float64 logits).
        total: ``[N]``, the sum of the scores; -inf where there is no alignment, NaN for NaN or +inf in a frame within
            the length and for lengths or labels out of range.
        label_count: S, the labels that a target may have by the shapes alone: ``targets.shape[-1]``.
    """

    paths: Tensor
    states: Tensor
    scores: Tensor
    total: Tensor
    label_count: int


@dataclasses.dataclass(frozen=True)
class CtcSpans:
    """Where each label of the target stands; without the dimension N for one unbatched utterance.

    Attributes:
        starts: ``[N, S]`` int64, the first frame of each label; -1 where there is no such label.
        ends: ``[N, S]`` int64, one past its last frame; -1 likewise.
        scores: ``[N, S]``, the mean of its frames' scores in nats; -inf likewise.
    """

    starts: Tensor
    ends: Tensor
    scores: Tensor


def ctc_spans(alignment: CtcAlignment) -> CtcSpans:
    """Return the frames of each label of an alignment, and how likely it is there.

    Plain PyTorch on the alignment's device: nothing waits for it, and equal inputs give equal bits.

    Args:
        alignment: What ``ctc_align`` returned, batched or not.

    Returns:
        ``CtcSpans``; labels beyond a target's length and those of utterances without an alignment have -1 and -inf.

    Raises:
        TypeError: ``alignment`` is no ``CtcAlignment``.

    Example:
        >>> alignment = ctc_align(torch.randn(50, 2, 20), torch.tensor([[1, 2], [3, 0]]), [50, 40], [2, 1])
        >>> spans = ctc_spans(alignment)
        >>> seconds = spans.starts * 0.04
    """
    if not isinstance(alignment, CtcAlignment):
        raise TypeError(f"ctc_spans: alignment is {type(alignment).__name__}; it takes what ctc_align returns.")
    unbatched = alignment.states.dim() == 1
    states, scores = alignment.states, alignment.scores
    if unbatched:
        states, scores = states[None], scores[None]
    states = states.long()
    is_start = _changes(states, states[:, :1] - 1, states[:, :-1])
    is_end = _changes(states, states[:, 1:], states[:, -1:] - 1)
    frame = torch.arange(states.shape[1], device=states.device).expand_as(states)
    starts = _by_label(states, is_start, frame, -1, alignment.label_count)
    lasts = _by_label(states, is_end, frame, -1, alignment.label_count)
    ends = torch.where(lasts >= 0, lasts + 1, -1)
    sums = _by_label(states, is_end, _running_sums(states, scores.double()), 0.0, alignment.label_count)
    means = torch.where(lasts >= 0, sums / (ends - starts).clamp(min=1), -torch.inf).to(scores.dtype)
    fields = (starts, ends, means)
    return CtcSpans(*(field[0] for field in fields)) if unbatched else CtcSpans(*fields)


def _changes(states: Tensor, first: Tensor, then: Tensor) -> Tensor:
    """Whether a frame's state differs from that of its neighbour; ``first`` and ``then`` side by side are those."""
    return states != torch.cat([first, then], 1)


def _by_label(states: Tensor, chosen: Tensor, values: Tensor, filler: float, label_count: int) -> Tensor:
    """Values of the chosen frames, of which each label has one, in the order of labels, ``[N, S]``."""
    # Blanks and all others write to a column of their own, which is dropped.
    column = torch.where(chosen & (states >= 0), states, label_count)
    out = values.new_full((states.shape[0], label_count + 1), filler)
    return out.scatter_(1, column, values)[:, :label_count]


def _running_sums(states: Tensor, scores: Tensor) -> Tensor:
    """The sum of scores from the first frame of each run of one state up to each frame.

    By doubling distances: a sum by index has no fixed order on a GPU, and differences of one long sum cancel.
    """
    distance, frames = 1, states.shape[1]
    while distance < frames:
        same = states[:, distance:] == states[:, :-distance]
        added = torch.where(same, scores[:, :-distance], 0.0)
        scores = torch.cat([scores[:, :distance], scores[:, distance:] + added], 1)
        distance *= 2
    return scores
