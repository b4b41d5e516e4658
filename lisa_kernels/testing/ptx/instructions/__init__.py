"""The instructions, by concern; importing this package fills the table of ``syntax``.

A new instruction is a function ``(block, inst)`` with ``@instruction`` and the syntax lines it implements.  It runs
once for all lanes of ``block.active``, reads operands with ``block.read``, writes with ``block.write``, reaches memory
through ``block.memory``, changes who runs next through ``block.threads``, and raises ``block.fail(kind, ...)``.
"""

from lisa_kernels.testing.ptx.instructions import (
    async_copy,
    atomics,
    bits,
    bulk_copy,
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
    mbarrier,
    synchronise,
    tensor_copy,
    warp,
    warpgroup,
)

__all__ = [
    "async_copy",
    "atomics",
    "bits",
    "bulk_copy",
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
    "mbarrier",
    "synchronise",
    "tensor_copy",
    "warp",
    "warpgroup",
]
