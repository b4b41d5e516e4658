"""Launch choices by target."""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.targets import GPUS
from lisa_kernels.core.tiling import Tile


@dataclasses.dataclass(frozen=True)
class RowTile(Tile):
    """A program takes ROWS frames and BLOCK classes at a time."""

    ROWS: int = 1
    BLOCK: int = 1024


@dataclasses.dataclass(frozen=True)
class TargetRowTile(RowTile):
    """And POSITIONS positions of the target."""

    POSITIONS: int = 64


@dataclasses.dataclass(frozen=True)
class StatesTile(Tile):
    """A program takes BLOCK states of the recursion at a time."""

    BLOCK: int = 128


@dataclasses.dataclass(frozen=True)
class LinksTile(Tile):
    """A program compares BLOCK positions or classes with all positions of a target, OTHERS at a time."""

    BLOCK: int = 128
    OTHERS: int = 16


@dataclasses.dataclass(frozen=True)
class OffsetsTile(Tile):
    """One program adds up the lengths of BLOCK targets at a time."""

    BLOCK: int = 1024


@dataclasses.dataclass(frozen=True)
class TermsTile(Tile):
    """A program adds up BLOCK frames of an utterance at a time."""

    BLOCK: int = 512


# By classes.  A thread takes 32 elements, in 128-bit accesses where strides allow; the rows of a program share what it
# reads of the target.
_ROWS = (
    (32, TargetRowTile(ROWS=32, BLOCK=32, POSITIONS=32)),
    (128, TargetRowTile(ROWS=16, BLOCK=128, POSITIONS=32)),
    (512, TargetRowTile(ROWS=8, BLOCK=512, POSITIONS=64)),
    (1024, TargetRowTile(ROWS=8, BLOCK=1024, POSITIONS=64, num_warps=8)),
    (2048, TargetRowTile(ROWS=4, BLOCK=2048, POSITIONS=64, num_warps=8)),
    (None, TargetRowTile(ROWS=4, BLOCK=1024, POSITIONS=64)),
)
ROWS = {
    **dict.fromkeys(GPUS, _ROWS),
    # Small, so that small problems cross the blocks' ends.
    "interp": ((8, TargetRowTile(ROWS=4, BLOCK=8, POSITIONS=4)), (None, TargetRowTile(ROWS=2, BLOCK=32, POSITIONS=16))),
}
# By classes.  Rows share the look-up of where classes stand, 2 bytes a class: at 16 rows of bf16 3 % of the traffic.
# A thread takes 16 elements.
_GRAD = (
    (32, RowTile(ROWS=64, BLOCK=32)),
    (64, RowTile(ROWS=32, BLOCK=64)),
    (128, RowTile(ROWS=16, BLOCK=128)),
    (None, RowTile(ROWS=16, BLOCK=256, num_warps=8)),
)
GRAD = {
    **dict.fromkeys(GPUS, _GRAD),
    # Rows of 256 spill 8 bytes there.
    "sm_120": (*_GRAD[:3], (None, RowTile(ROWS=16, BLOCK=128, num_warps=8))),
    "interp": ((8, RowTile(ROWS=4, BLOCK=8)), (None, RowTile(ROWS=2, BLOCK=32))),
}
# Where a thread loads single elements, each lies in another row, of which it holds addresses and statistics: 16 take
# 250 registers, 8 take 130.
_GRAD_SINGLE = (
    (32, RowTile(ROWS=32, BLOCK=32)),
    (64, RowTile(ROWS=16, BLOCK=64)),
    (None, RowTile(ROWS=16, BLOCK=128, num_warps=8)),
)
GRAD_SINGLE = {
    **GRAD,
    **dict.fromkeys(GPUS, _GRAD_SINGLE),
    # With all options, 16 rows spill 24 registers there.
    "gfx942": (*_GRAD_SINGLE[:2], (None, RowTile(ROWS=8, BLOCK=128, num_warps=8))),
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
    **dict.fromkeys(GPUS, _STATES),
    "gfx942": (
        (63, StatesTile(BLOCK=64, num_warps=1)),
        (127, StatesTile(BLOCK=128, num_warps=1)),
        (None, StatesTile(BLOCK=256, num_warps=4)),
    ),
    "interp": ((31, StatesTile(BLOCK=32, num_warps=1)), (None, StatesTile(BLOCK=32))),
}
# By labels.
LINKS = {**dict.fromkeys(GPUS, ((None, LinksTile()),)), "interp": ((None, LinksTile(BLOCK=16, OTHERS=8)),)}
# By utterances.
OFFSETS = {**dict.fromkeys(GPUS, ((None, OffsetsTile()),)), "interp": ((None, OffsetsTile(BLOCK=2)),)}
# By frames.
TERMS = {**dict.fromkeys(GPUS, ((None, TermsTile()),)), "interp": ((None, TermsTile(BLOCK=4)),)}
