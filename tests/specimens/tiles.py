"""Launch choices of the specimens: small ones to run here, large ones to compile."""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.tiling import Tile


@dataclasses.dataclass(frozen=True)
class MatmulTile(Tile):
    BLOCK_M: int = 64
    BLOCK_N: int = 64
    BLOCK_K: int = 32


@dataclasses.dataclass(frozen=True)
class AttentionTile(Tile):
    HEAD_DIM: int = 64
    BLOCK_M: int = 64
    BLOCK_N: int = 32


@dataclasses.dataclass(frozen=True)
class RowTile(Tile):
    BLOCK: int = 1024


TILES = {
    "matmul": MatmulTile(num_stages=3),
    "softmax": RowTile(),
    "attention": AttentionTile(num_stages=2),
    "scan": RowTile(BLOCK=128),
}
LARGE_TILES = {
    "matmul": MatmulTile(BLOCK_M=128, BLOCK_N=128, BLOCK_K=64, num_warps=8, num_stages=3),
    "softmax": RowTile(BLOCK=4096, num_warps=8),
    "attention": AttentionTile(BLOCK_M=128, BLOCK_N=64, num_warps=8, num_stages=2),
    "scan": RowTile(BLOCK=1024),
}
