"""Launch choices by target."""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.targets import GPUS
from lisa_kernels.core.tiling import Tile
from lisa_kernels.ops.ctc.tiles import TargetRowTile


@dataclasses.dataclass(frozen=True)
class SearchTile(Tile):
    """A program takes BLOCK positions at a time."""

    BLOCK: int = 128


@dataclasses.dataclass(frozen=True)
class TraceTile(Tile):
    """Frames come in chunks of FRAMES; a program takes BLOCK states, or BLOCK chunks, at a time."""

    FRAMES: int = 64
    BLOCK: int = 32


@dataclasses.dataclass(frozen=True)
class ChainTile(Tile):
    """One program goes through an utterance's frames and labels, BLOCK at a time, then from chunk to chunk."""

    BLOCK: int = 1024


# By classes: 128 bits a thread.
_ROWS = (
    (32, TargetRowTile(ROWS=32, BLOCK=32, POSITIONS=16)),
    (128, TargetRowTile(ROWS=8, BLOCK=128)),
    (512, TargetRowTile(ROWS=4, BLOCK=512)),
    (1024, TargetRowTile(ROWS=2, BLOCK=1024)),
    (2048, TargetRowTile(ROWS=2, BLOCK=2048)),
    (8192, TargetRowTile(ROWS=1, BLOCK=8192, POSITIONS=128, num_warps=8)),
    (None, TargetRowTile(ROWS=1, BLOCK=4096, POSITIONS=128)),
)
ROWS = {
    **dict.fromkeys(GPUS, _ROWS),
    # Small, so that small problems cross the blocks' ends.
    "interp": ((8, TargetRowTile(ROWS=4, BLOCK=8, POSITIONS=4)), (None, TargetRowTile(ROWS=2, BLOCK=32, POSITIONS=16))),
}
# By the positions that a program holds to keep a window in registers: labels, or with a band 2 * band + 7; the last row
# has no room for all.  One a thread: 400 cycles a frame at 128 positions in the static model of sm_90, 743 with four.
_SEARCH = (
    (31, SearchTile(BLOCK=32, num_warps=1)),
    (63, SearchTile(BLOCK=64, num_warps=2)),
    (127, SearchTile(BLOCK=128, num_warps=4)),
    (255, SearchTile(BLOCK=256, num_warps=8)),
    (511, SearchTile(BLOCK=512, num_warps=16)),
    (1023, SearchTile(BLOCK=1024, num_warps=16)),
    (None, SearchTile(BLOCK=1024, num_warps=32)),
)
SEARCH = {
    **dict.fromkeys(GPUS, _SEARCH),
    # 64 lanes a warp.
    "gfx942": (
        (63, SearchTile(BLOCK=64, num_warps=1)),
        (127, SearchTile(BLOCK=128, num_warps=2)),
        (255, SearchTile(BLOCK=256, num_warps=4)),
        (511, SearchTile(BLOCK=512, num_warps=8)),
        (None, SearchTile(BLOCK=1024, num_warps=16)),
    ),
    "interp": ((None, SearchTile(BLOCK=32)),),
}
TRACE = {
    **dict.fromkeys(GPUS, ((None, TraceTile(num_warps=1)),)),
    "interp": ((None, TraceTile(FRAMES=16, BLOCK=32)),),
}
CHAIN = {
    **dict.fromkeys(GPUS, ((None, ChainTile()),)),
    "interp": ((None, ChainTile(BLOCK=32)),),
}
