"""Launch choices by target: of row passes by classes, of the recursion and of targets by labels."""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.tiling import Tile


@dataclasses.dataclass(frozen=True)
class RowTile(Tile):
    """A program takes ROWS frames, BLOCK classes and POSITIONS positions of the target at a time."""

    ROWS: int = 1
    BLOCK: int = 1024
    POSITIONS: int = 128


@dataclasses.dataclass(frozen=True)
class StatesTile(Tile):
    """A program takes BLOCK states of the recursion at a time."""

    BLOCK: int = 128


@dataclasses.dataclass(frozen=True)
class PositionsTile(Tile):
    """A program compares BLOCK positions of a target with all others, OTHERS at a time."""

    BLOCK: int = 128
    OTHERS: int = 16


# 128 bits a thread: BLOCK * ROWS is at least 128 bits * 32 lanes * num_warps in bf16 from 1024 classes on.
_ROWS = (
    (32, RowTile(ROWS=32, BLOCK=32, POSITIONS=32)),
    (128, RowTile(ROWS=8, BLOCK=128, POSITIONS=64)),
    (512, RowTile(ROWS=4, BLOCK=512, POSITIONS=64)),
    (1024, RowTile(ROWS=2, BLOCK=1024, POSITIONS=64)),
    (2048, RowTile(ROWS=2, BLOCK=2048, POSITIONS=64)),
    (8192, RowTile(ROWS=1, BLOCK=8192, POSITIONS=128, num_warps=8)),
    (None, RowTile(ROWS=1, BLOCK=4096, POSITIONS=128)),
)
ROWS = {
    "sm_80": _ROWS,
    "sm_90": _ROWS,
    "sm_100": _ROWS,
    "sm_120": _ROWS,
    "gfx942": _ROWS,
    # Small, so that small problems cross the blocks' ends.
    "interp": (
        (8, RowTile(ROWS=4, BLOCK=8, POSITIONS=4)),
        (32, RowTile(ROWS=2, BLOCK=32, POSITIONS=16)),
        (None, RowTile(ROWS=2, BLOCK=32, POSITIONS=16)),
    ),
}
# By labels of the longest target that the shapes allow; a blank stands behind them.  One warp that holds all states
# keeps them in registers.  More warps take a state a thread: two are laid out in another way for each load, at 4
# barriers a frame.
_STATES = (
    (31, StatesTile(BLOCK=32, num_warps=1)),
    (63, StatesTile(BLOCK=64, num_warps=1)),
    (127, StatesTile(BLOCK=128, num_warps=1)),
    (None, StatesTile(BLOCK=256, num_warps=8)),
)
STATES = {
    "sm_80": _STATES,
    "sm_90": _STATES,
    "sm_100": _STATES,
    "sm_120": _STATES,
    "gfx942": (
        (63, StatesTile(BLOCK=64, num_warps=1)),
        (127, StatesTile(BLOCK=128, num_warps=1)),
        (None, StatesTile(BLOCK=256, num_warps=4)),
    ),
    "interp": ((31, StatesTile(BLOCK=32, num_warps=1)), (None, StatesTile(BLOCK=32))),
}
POSITIONS = {
    **dict.fromkeys(("sm_80", "sm_90", "sm_100", "sm_120", "gfx942"), ((None, PositionsTile()),)),
    "interp": ((None, PositionsTile(BLOCK=16, OTHERS=8)),),
}
