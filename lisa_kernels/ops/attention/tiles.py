"""Launch choices by target, kernel and dtype; size classes by the wider of D and DV, rounded up to a power of two.

Read off compiled code: the largest tiles without spills.
"""

from __future__ import annotations

import dataclasses

from lisa_kernels.core.tiling import Tile


@dataclasses.dataclass(frozen=True)
class AttentionTile(Tile):
    """A program owns QUERIES or KEYS tokens and steps through the others, KEYS or QUERIES at a time.

    Attributes:
        DESCRIPTORS: Load through tensor descriptors (TMA) where memory and plan allow.
        PRECISION: Of fp32 products; ``"tf32x3"`` is three products of rounded parts.
    """

    QUERIES: int = 128
    KEYS: int = 64
    DESCRIPTORS: bool = False
    PRECISION: str = "ieee"


@dataclasses.dataclass(frozen=True)
class RowTile(Tile):
    """A program takes QUERIES rows."""

    QUERIES: int = 64


def _tile(queries: int, keys: int, warps: int, stages: int) -> AttentionTile:
    return AttentionTile(QUERIES=queries, KEYS=keys, num_warps=warps, num_stages=stages)


def _tma(queries: int, keys: int, warps: int, stages: int) -> AttentionTile:
    return dataclasses.replace(_tile(queries, keys, warps, stages), DESCRIPTORS=True)


def _wide(queries: int, keys: int, warps: int, stages: int) -> AttentionTile:
    """fp32 on NVIDIA: tensor cores.  Errors of forward and gradients are those of fp32 products (within 3 % rms)."""
    return dataclasses.replace(_tile(queries, keys, warps, stages), PRECISION="tf32x3")


_NVIDIA = ("sm_80", "sm_90", "sm_100", "sm_120")
# Half precision.
FORWARD = {
    "sm_80": ((128, _tile(128, 64, 8, 2)), (None, _tile(64, 32, 8, 2))),
    "sm_90": ((64, _tma(128, 64, 4, 3)), (128, _tma(128, 128, 8, 2)), (None, _tma(128, 64, 8, 2))),
    "sm_100": ((64, _tma(128, 64, 8, 3)), (128, _tma(128, 128, 8, 2)), (None, _tma(128, 64, 8, 2))),
    "sm_120": ((128, _tile(128, 64, 8, 2)), (None, _tile(64, 32, 8, 2))),
    "gfx942": ((64, _tile(128, 64, 4, 1)), (128, _tile(128, 64, 8, 1)), (None, _tile(64, 32, 8, 1))),
    "interp": ((None, _tile(64, 32, 4, 1)),),
}
QUERY_GRAD = {
    "sm_80": ((64, _tile(128, 64, 8, 2)), (128, _tile(64, 64, 4, 2)), (None, _tile(64, 32, 8, 2))),
    "sm_90": ((128, _tma(128, 64, 8, 2)), (None, _tma(64, 32, 8, 2))),
    "sm_100": ((128, _tma(128, 64, 8, 2)), (None, _tma(64, 32, 8, 2))),
    "sm_120": ((64, _tile(128, 64, 8, 2)), (128, _tile(64, 32, 4, 2)), (None, _tile(64, 32, 8, 2))),
    "gfx942": ((64, _tile(128, 64, 8, 1)), (128, _tile(128, 32, 4, 1)), (None, _tile(64, 32, 8, 1))),
    "interp": ((None, _tile(32, 64, 4, 1)),),
}
KEY_GRAD = {
    "sm_80": ((64, _tile(32, 128, 8, 2)), (128, _tile(64, 64, 8, 2)), (None, _tile(32, 32, 8, 1))),
    "sm_90": ((64, _tma(64, 128, 8, 2)), (128, _tma(32, 128, 8, 2)), (None, _tile(32, 32, 8, 1))),
    "sm_100": ((64, _tma(64, 128, 8, 2)), (128, _tma(64, 64, 8, 2)), (None, _tile(32, 32, 8, 2))),
    "sm_120": ((64, _tile(32, 128, 8, 2)), (128, _tile(64, 64, 8, 2)), (None, _tile(32, 32, 8, 1))),
    "gfx942": ((128, _tile(32, 128, 8, 1)), (None, _tile(32, 32, 8, 1))),
    "interp": ((None, _tile(64, 32, 4, 1)),),
}
# fp32.  Three products of split operands take registers: small tiles.  With 64 rows for 4 warps sm_90 has wgmma, and a
# pair of tokens takes half the instructions of other shapes.
_WIDE_FORWARD = (64, _wide(64, 32, 4, 2)), (128, _wide(32, 32, 4, 2)), (None, _wide(16, 32, 8, 1))
WIDE_FORWARD = {
    **dict.fromkeys(_NVIDIA, _WIDE_FORWARD),
    "gfx942": ((128, _tile(64, 32, 8, 1)), (None, _tile(32, 32, 8, 1))),
    "interp": FORWARD["interp"],
}
_WIDE_QUERY_GRAD = (128, _wide(32, 16, 8, 1)), (None, _wide(16, 16, 8, 1))
WIDE_QUERY_GRAD = {
    "sm_80": ((32, _wide(64, 32, 4, 2)), (64, _wide(32, 32, 4, 2)), *_WIDE_QUERY_GRAD),
    "sm_90": ((64, _wide(64, 32, 4, 2)), *_WIDE_QUERY_GRAD),
    "sm_100": ((32, _wide(64, 32, 4, 2)), (64, _wide(32, 16, 4, 2)), *_WIDE_QUERY_GRAD),
    "sm_120": ((32, _wide(32, 16, 4, 2)), (64, _wide(32, 32, 4, 2)), *_WIDE_QUERY_GRAD),
    "gfx942": ((128, _tile(32, 32, 8, 1)), (None, _tile(16, 16, 4, 1))),
    "interp": QUERY_GRAD["interp"],
}
_WIDE_KEY_GRAD = (32, _wide(32, 16, 4, 2)), (128, _wide(32, 32, 8, 2)), (None, _wide(16, 16, 8, 1))
WIDE_KEY_GRAD = {
    **dict.fromkeys(_NVIDIA, _WIDE_KEY_GRAD),
    "gfx942": ((128, _tile(32, 32, 8, 1)), (None, _tile(16, 16, 4, 1))),
    "interp": KEY_GRAD["interp"],
}
# By kernel, for half precision and for fp32.
HALF = {"forward": FORWARD, "query_grad": QUERY_GRAD, "key_grad": KEY_GRAD}
WIDE = {"forward": WIDE_FORWARD, "query_grad": WIDE_QUERY_GRAD, "key_grad": WIDE_KEY_GRAD}
DELTA = {
    **dict.fromkeys((*_NVIDIA, "gfx942"), ((64, RowTile()), (None, RowTile(QUERIES=32)))),
    "interp": ((None, RowTile(QUERIES=32)),),
}
