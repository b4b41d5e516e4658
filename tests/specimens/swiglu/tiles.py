"""Launch choices by target; a program takes BLOCK elements."""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.tiling import Tile


@dataclasses.dataclass(frozen=True)
class ElementwiseTile(Tile):
    BLOCK: int = 1024


TILES = {
    # Two size classes, so that an offline compile meets both.
    "sm_80": ((4096, ElementwiseTile(BLOCK=256)), (None, ElementwiseTile())),
    "sm_90": ((None, ElementwiseTile(BLOCK=2048, num_warps=8)),),
    "sm_100": ((None, ElementwiseTile(BLOCK=2048, num_warps=8)),),
    "sm_120": ((None, ElementwiseTile()),),
    # 64 lanes a warp: 2048 keeps 8 bf16, one 128-bit access, a lane.
    "gfx942": ((None, ElementwiseTile(BLOCK=2048)),),
    "interp": ((None, ElementwiseTile(BLOCK=512)),),
}
