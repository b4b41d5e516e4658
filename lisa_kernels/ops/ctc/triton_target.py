"""Host code of what the Triton kernels of all CTC ops ask of concatenated targets."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.targets import current_target
from lisa_kernels.core.tiling import pick
from lisa_kernels.ops.ctc import kernels_target, tiles


def target_offsets(targets: Tensor, target_lengths: Tensor) -> Tensor | None:
    """Return where each concatenated target begins, and the end of the last, ``[N + 1]``; None for padded targets."""
    if targets.dim() == 2:
        return None
    batch = len(target_lengths)
    offsets = torch.empty(batch + 1, dtype=torch.int64, device=target_lengths.device)
    tile = pick(tiles.OFFSETS, current_target(target_lengths.device), batch)
    launch(kernels_target.ctc_offsets_kernel, (1,), target_lengths, offsets, batch, targets.numel(), tile=tile)
    return offsets
