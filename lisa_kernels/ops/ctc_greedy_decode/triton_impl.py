"""Host code of the Triton kernels: two launches.  Nothing on the device is read here.

Scratch: 8 bytes a frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.rows import dense_rows, in_vectors, vector_elements
from lisa_kernels.core.targets import current_target
from lisa_kernels.core.tiling import pick
from lisa_kernels.ops.ctc_greedy_decode import kernels, tiles


def refuse(named: dict[str, Any]) -> str | None:
    """Return why these kernels cannot run a call, or None."""
    if named["logits"].dtype == torch.float64:
        return "float64 logits; its softmax is float32: use the cuda, cpu or reference backend"
    return None


def forward(logits: Tensor, logit_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    logits = dense_rows(logits)
    frames, batch, classes = logits.shape
    target = current_target(logits.device)
    best = torch.empty((batch, frames), dtype=torch.int32, device=logits.device)
    log_prob = torch.empty((batch, frames), dtype=torch.float32, device=logits.device)
    tile = pick(tiles.ROWS, target, classes)
    launch(
        kernels.ctc_best_kernel, (-(-frames // tile.ROWS) * batch,), logits, best, log_prob, logit_lengths, frames,
        batch, *in_vectors(logits), tile=tile, VECTOR=vector_elements(logits), ONE_BLOCK=classes <= tile.BLOCK,
    )  # fmt: skip
    ids, starts, ends = (torch.empty((batch, frames), dtype=torch.int64, device=logits.device) for _ in range(3))
    lengths = torch.empty(batch, dtype=torch.int64, device=logits.device)
    scores = torch.empty(batch, dtype=torch.float32, device=logits.device)
    launch(
        kernels.ctc_collapse_kernel, (batch,), best, log_prob, logit_lengths, ids, lengths, starts, ends, scores,
        frames, blank, tile=pick(tiles.COLLAPSE, target, frames),
    )  # fmt: skip
    return ids, lengths, starts, ends, scores
