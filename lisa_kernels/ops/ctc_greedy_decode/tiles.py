"""Launch choices by target: of the pass over rows by classes, of the collapse by frames."""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.targets import GPUS
from lisa_kernels.core.tiling import Tile
from lisa_kernels.ops.ctc.tiles import RowTile


@dataclasses.dataclass(frozen=True)
class CollapseTile(Tile):
    """A program takes BLOCK frames of its utterance at a time."""

    BLOCK: int = 1024


# 128 bits a thread: BLOCK * ROWS is at least 128 bits * 32 lanes * num_warps in bf16.
_ROWS = (
    (32, RowTile(ROWS=32, BLOCK=32)),
    (128, RowTile(ROWS=8, BLOCK=128)),
    (512, RowTile(ROWS=4, BLOCK=512)),
    (1024, RowTile(ROWS=2, BLOCK=1024)),
    (2048, RowTile(ROWS=2, BLOCK=2048)),
    (8192, RowTile(ROWS=1, BLOCK=8192, num_warps=8)),
    (None, RowTile(ROWS=1, BLOCK=4096)),
)
ROWS = {
    **dict.fromkeys(GPUS, _ROWS),
    # Small, so that small problems cross the blocks' ends.
    "interp": ((8, RowTile(ROWS=4, BLOCK=8)), (None, RowTile(ROWS=2, BLOCK=32))),
}
COLLAPSE = {
    **dict.fromkeys(
        GPUS,
        ((512, CollapseTile(BLOCK=512)), (None, CollapseTile(BLOCK=2048, num_warps=8))),
    ),
    "interp": ((None, CollapseTile(BLOCK=16)),),
}
