"""How many blocks of a kernel one SM holds, and what keeps it from holding more."""

from __future__ import annotations

import dataclasses

from lisa_kernels.testing.static.architectures import REGISTERS, Architecture
from lisa_kernels.testing.static.pipes import PARTITIONS

# Registers are given out in units of 8 a thread (CUDA occupancy calculator, sm_80 and later).
_REGISTER_UNIT = 8
_LANES = 32
# Shared memory that every block costs beside its own.
_RESERVED_SHARED = 1024
_TENSOR_MEMORY_COLUMNS = 512


@dataclasses.dataclass(frozen=True)
class Occupancy:
    """Resident blocks.

    Attributes:
        blocks: Blocks of one SM; 0 where one does not fit.
        limited_by: The resource that ends first: ``registers``, ``shared memory``, ``warps``, ``blocks`` or
            ``tensor memory``.
        share: Resident warps over the SM's most.
    """

    blocks: int
    limited_by: str
    share: float


def find_occupancy(
    arch: Architecture, *, registers: int, shared_bytes: int, warps: int, tensor_memory_columns: int = 0
) -> Occupancy:
    """Return the resident blocks of a kernel.

    Args:
        registers: Of one thread.
        shared_bytes: Of one block, static and dynamic.
        warps: Of one block.
        tensor_memory_columns: Columns of tensor memory (sm_100) that a block allocates.
    """
    per_warp = -(-max(registers, 1) // _REGISTER_UNIT) * _REGISTER_UNIT * _LANES
    if warps >= PARTITIONS:
        by_registers = REGISTERS // PARTITIONS // per_warp * PARTITIONS // warps
    else:
        by_registers = REGISTERS // per_warp // warps
    fits = shared_bytes <= arch.block_shared_kib * 1024
    limits = {
        "registers": by_registers,
        "shared memory": arch.shared_kib * 1024 // (shared_bytes + _RESERVED_SHARED) if fits else 0,
        "warps": arch.warps // warps,
        "blocks": arch.blocks,
    }
    if tensor_memory_columns:
        limits["tensor memory"] = _TENSOR_MEMORY_COLUMNS // tensor_memory_columns
    limited_by = min(limits, key=limits.__getitem__)
    blocks = limits[limited_by]
    return Occupancy(blocks, limited_by, round(blocks * warps / arch.warps, 3))
