"""The flat occupancy that forward saves: by position of the target or by class, as the op's README lays it out."""

from __future__ import annotations

import torch
from torch import Tensor


def stored_by_class(targets: Tensor, batch: int, classes: int) -> bool:
    """Whether occupancies are stored for each class (``[N, T, C]``) because positions would not be fewer."""
    return targets.numel() + batch >= batch * classes


def pack(by_class: Tensor, targets: Tensor, wide: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """From ``[T, N, C]`` to the packed form; a class that occurs again gets all at its first position."""
    frames, batch, classes = by_class.shape
    if stored_by_class(targets, batch, classes):
        return by_class.transpose(0, 1).reshape(-1)
    index, exists = _slots(targets, wide, target_lengths, frames)
    ids = torch.nn.functional.pad(wide, (1, 0), value=blank)
    outside = (ids < 0) | (ids >= classes)
    repeated = (ids[:, :, None] == ids[:, None, :]).tril(-1).any(-1)
    ids = ids.clamp(0, classes - 1)
    values = by_class.transpose(0, 1).gather(2, ids[:, None, :].expand(index.shape))
    values = torch.where((repeated | outside)[:, None, :], torch.zeros_like(values), values)
    packed = values.new_zeros(frames * (targets.numel() + batch) + 1)
    # What does not exist goes to one spare place at the end.
    packed[torch.where(exists, index, packed.numel() - 1)] = values
    return packed[:-1].clone()


def unpack(
    occupancy: Tensor, targets: Tensor, wide: Tensor, target_lengths: Tensor, blank: int, shape: torch.Size
) -> Tensor:
    """From the packed form to ``[T, N, C]``; positions whose label is no class (stars) are left out."""
    frames, batch, classes = shape
    if stored_by_class(targets, batch, classes):
        return occupancy.reshape(batch, frames, classes).transpose(0, 1)
    index, exists = _slots(targets, wide, target_lengths, frames)
    ids = torch.nn.functional.pad(wide, (1, 0), value=blank)
    exists = exists & ((ids >= 0) & (ids < classes))[:, None, :]
    ids = ids.clamp(0, classes - 1)
    values = torch.where(exists, occupancy[torch.where(exists, index, 0)], 0) if index.numel() else index.to(occupancy)
    sums = occupancy.new_zeros(batch, frames, classes)
    return sums.scatter_add_(2, ids[:, None, :].expand(index.shape), values).transpose(0, 1)


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
