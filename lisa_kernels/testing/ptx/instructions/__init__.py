"""The instructions, by concern; importing this package fills the table of ``syntax``."""

from lisa_kernels.testing.ptx.instructions import (
    async_copy,
    atomics,
    bits,
    calls,
    compare,
    control,
    convert,
    data_movement,
    elementary,
    fences,
    floating,
    integer,
    matrix,
    synchronise,
    warp,
    warpgroup,
)

__all__ = [
    "async_copy",
    "atomics",
    "bits",
    "calls",
    "compare",
    "control",
    "convert",
    "data_movement",
    "elementary",
    "fences",
    "floating",
    "integer",
    "matrix",
    "synchronise",
    "warp",
    "warpgroup",
]
