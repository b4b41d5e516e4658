"""Greedy decoding in plain PyTorch: the definition the kernels are judged by.

``forward`` is the same mathematics as the ``reference`` backend: in fp64, rounded once.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class CtcDecoded:
    """What ``ctc_greedy_decode`` returns; without the dimension N for one unbatched utterance.

    Attributes:
        ids: ``[N, T]`` int64, classes of the decoded labels; -1 behind the last.
        lengths: ``[N]`` int64, how many there are.
        starts: ``[N, T]`` int64, the first frame of each label; -1 behind the last.
        ends: ``[N, T]`` int64, one past the last frame of each label; -1 behind the last.
        scores: ``[N]``, log-probability in nats of the best class, summed over all frames of the utterance; fp32 (fp64
            for float64 logits).
    """

    ids: Tensor
    lengths: Tensor
    starts: Tensor
    ends: Tensor
    scores: Tensor


def ctc_greedy_decode(
    logits: Tensor, logit_lengths: Tensor | None = None, *, blank: int = 0, layout: str = "TNC"
) -> CtcDecoded:
    """Return the decoded labels, computed in the dtype of ``logits`` (half precision in fp32).

    Same arguments as ``lisa_kernels.ctc_greedy_decode``; lengths are on the device of ``logits`` and are trusted.
    """
    unbatched = logits.dim() == 2
    if unbatched:
        logits = logits.unsqueeze(1)
    elif layout == "NTC":
        logits = logits.transpose(0, 1)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if logit_lengths is None:
        logit_lengths = torch.full((logits.shape[1],), logits.shape[0], device=logits.device)
    decoded = _decode(logits, logit_lengths.reshape(-1), blank)
    return CtcDecoded(*(field[0] for field in decoded)) if unbatched else CtcDecoded(*decoded)


def forward(logits: Tensor, logit_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return ids, lengths, starts, ends and scores of logits ``[T, N, C]``."""
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    *decoded, scores = _decode(logits.double(), logit_lengths, blank)
    return (*decoded, scores.to(real))


def _decode(logits: Tensor, logit_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of ``CtcDecoded``, batched."""
    frames, batch, _ = logits.shape
    fault = (logit_lengths < 0) | (logit_lengths > frames)
    frame = torch.arange(frames, device=logits.device)
    valid = frame < logit_lengths[:, None]
    # Frames beyond a length may hold anything.
    rows = torch.where(valid[:, :, None], logits.transpose(0, 1), 0)
    best_log_prob = rows.log_softmax(-1).amax(-1)
    scores = torch.where(valid, best_log_prob, 0).sum(1)
    scores = torch.where(fault, torch.nan, scores)

    # NaN is never the best class, and argmax takes the first of equals.
    best = torch.where(rows.isnan(), -torch.inf, rows).argmax(-1)
    label = valid & (best != blank)
    outside = best.new_full((batch, 1), -1)
    held = torch.where(valid, best, -1)
    begins = label & (held != torch.cat([outside, held], 1)[:, :-1])
    finishes = label & (held != torch.cat([held, outside], 1)[:, 1:])
    position = begins.cumsum(1) - 1

    def place(values: Tensor, chosen: Tensor) -> Tensor:
        """Values of the chosen frames one after another; the others go to one spare place at the end."""
        room = best.new_full((batch, frames + 1), -1)
        return room.scatter(1, torch.where(chosen, position, frames), values.expand(batch, frames))[:, :-1].contiguous()

    return place(best, begins), begins.sum(1), place(frame, begins), place(frame + 1, finishes), scores
