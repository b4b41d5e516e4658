"""Which pairs of tiles hold visible pairs of tokens, and the lists of them; tensor operations on any device.

A tile is 128 tokens, and a pair of tiles is judged by a summary of each: samples, modalities, positions.  A tile pair
may be called partial although nothing in it is seen, never the reverse.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lisa_kernels.ops.attention.policy import CAUSAL, FULL, AttentionPolicy

TILE = 128
SKIPPED, PARTIAL, COMPLETE = 0, 1, 2
# Tile numbers are int16 below this: lists of both directions for 4 types at T = 16k are then 0.25 MiB.
_SMALL = 2**15
_LAST = torch.iinfo(torch.int32).max


@dataclasses.dataclass(frozen=True)
class Summary:
    """One entry a tile: ``[tiles]``, and ``[tiles, modalities]`` for ``present``."""

    first_sample: Tensor
    last_sample: Tensor
    first_position: Tensor
    last_position: Tensor
    unpadded: Tensor
    present: Tensor

    def at(self, tiles: Tensor) -> Summary:
        """Return the entries of some tiles, of any shape."""
        return Summary(*(getattr(self, field.name)[tiles] for field in dataclasses.fields(self)))


def summarise(sample: Tensor, position: Tensor, modality: Tensor, n_modality: int) -> Summary:
    """Return the summary of tokens ``[tiles * 128]``; padding has sample -1."""
    sample, position, modality = (x.view(-1, TILE) for x in (sample, position, modality))
    padding = sample < 0
    # A column of its own for padding, which no table looks at.
    column = modality.masked_fill(padding, n_modality).long()
    present = torch.zeros(sample.shape[0], n_modality + 1, dtype=torch.float32, device=sample.device)
    present.scatter_(1, column, 1.0)
    return Summary(
        first_sample=sample.masked_fill(padding, _LAST).amin(1),
        last_sample=sample.amax(1),
        first_position=position.masked_fill(padding, _LAST).amin(1),
        last_position=position.masked_fill(padding, -_LAST).amax(1),
        unpadded=~padding.any(1),
        present=present[:, :n_modality],
    )


@dataclasses.dataclass(frozen=True)
class Band:
    """Pairs of tiles near the diagonal: column j of row i is tile ``i - reach + j``, ``[tiles, 2 * reach + 1]``."""

    reach: int
    tile: Tensor
    inside: Tensor

    @classmethod
    def of(cls, count: int, reach: int, device: torch.device) -> Band:
        """Return the band of ``count`` tiles; columns that do not exist hold a tile that does."""
        tile = torch.arange(count, device=device)[:, None] + torch.arange(-reach, reach + 1, device=device)
        inside = (tile >= 0) & (tile < count)
        return cls(reach, tile.clamp(0, max(count - 1, 0)), inside)


def judge(queries: Summary, keys: Summary, tables: Tensor, band: Band | None) -> Tensor:
    """Return the states of tile pairs, int8 ``[types, query tiles, columns]``.

    Args:
        tables: ``[4 * types, M, M]``, see ``visibility_tables``.
        band: Which key tile a column is; None for a column each.
    """
    types = tables.shape[0] // 4
    rows = Summary(*(getattr(queries, field.name)[:, None] for field in dataclasses.fields(queries)))
    if band is None:
        columns = Summary(*(getattr(keys, field.name)[None] for field in dataclasses.fields(keys)))
        pairs = torch.matmul(torch.matmul(queries.present, tables), keys.present.t())
    else:
        columns = keys.at(band.tile)
        half = torch.matmul(queries.present, tables).transpose(0, 1)
        pairs = torch.matmul(half, columns.present.transpose(1, 2)).transpose(0, 1)
    # How many pairs of modalities are FULL, seen in some order, not FULL, never seen.
    full, some, not_full, never = pairs.unflatten(0, (4, types)) != 0
    overlap = (rows.first_sample <= columns.last_sample) & (columns.first_sample <= rows.last_sample)
    if band is not None:
        overlap &= band.inside
    seen = overlap & (full | (some & (rows.last_position >= columns.first_position)))
    alone = (
        (rows.first_sample == rows.last_sample)
        & (columns.first_sample == columns.last_sample)
        & (rows.unpadded & columns.unpadded)
    )
    complete = seen & alone & (~not_full | (~never & (rows.first_position >= columns.last_position)))
    return seen.to(torch.int8) + complete.to(torch.int8)


def transpose(states: Tensor, band: Band | None) -> Tensor:
    """Return the same states by key tile, ``[types, key tiles, columns]``, columns being query tiles likewise."""
    if band is None:
        return states.transpose(1, 2)
    # Column j of key tile i is query tile i - reach + j, in whose row key tile i is column 2 * reach - j.
    column = torch.arange(2 * band.reach, -1, -1, device=states.device)
    return torch.where(band.inside, states[:, band.tile, column], SKIPPED)


def make_lists(states: Tensor, band: Band | None) -> Tensor:
    """Return ``[types, tiles, 2 + columns]``: numbers of partial and of all tiles, partial ones, full ones, zeros.

    Not contiguous.
    """
    types, count, width = states.shape
    device = states.device
    tile = torch.arange(width, device=device).expand(count, width) if band is None else band.tile
    dtype = torch.int16 if max(count, width) <= _SMALL else torch.int32
    partial, complete = states == PARTIAL, states == COMPLETE
    before_partial = partial.cumsum(2)
    before_complete = complete.cumsum(2)
    n_partial, n_complete = before_partial[..., -1:], before_complete[..., -1:]
    if width == 0:
        n_partial = n_complete = states.new_zeros((types, count, 1), dtype=torch.int64)
    # One column behind the last takes what is skipped, and is cut off.
    place = torch.where(partial, before_partial + 1, width + 2)
    place = torch.where(complete, n_partial + before_complete + 1, place)
    lists = torch.zeros(types, count, width + 3, dtype=dtype, device=device)
    lists.scatter_(2, place, tile.to(dtype).expand(types, count, width))
    lists[..., 0:1] = n_partial
    lists[..., 1:2] = n_partial + n_complete
    return lists[..., : width + 2]


def visibility_tables(policy: AttentionPolicy) -> list[list[list[float]]]:
    """Return ``[4 * types, M, M]`` of 0 and 1: FULL; FULL or CAUSAL; not FULL; NONE."""
    tests = (
        lambda entry: entry == FULL,
        lambda entry: entry in (FULL, CAUSAL),
        lambda entry: entry != FULL,
        lambda entry: entry not in (FULL, CAUSAL),
    )
    return [[[float(test(entry)) for entry in row] for row in table] for test in tests for table in policy.visibility]
