"""Cycles that each pipe of an SM is busy in one iteration of a loop.

The busiest pipe bounds the loop from below, whatever the overlap: ``ceiling`` is the tensor pipe's cycles over that
pipe's.  All is per sub-partition (a quarter of the SM), shared memory and L2 per SM.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from lisa_kernels.testing.static import opcodes
from lisa_kernels.testing.static.architectures import Architecture
from lisa_kernels.testing.static.sass import Instruction

PARTITIONS = 4
_LANES = 32
_BF16_BYTES = 2
# Assumed: NVIDIA publishes no rate of the uniform datapath.
_UNIFORM_CYCLES = 2.0
_SHUFFLE_CYCLES, _SHUFFLE_BYTES = 4.0, 128
# Taken for tcgen05 where the PTX shows no instruction descriptor.
_DEFAULT_SM_SHAPE = (128, 128, 16)

Shape = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one issue of an instruction occupies.

    Attributes:
        pipe: ``tensor``, ``special``, ``fp32``, ``integer``, ``alu``, ``uniform``, ``shared``, ``l2`` or ``issue``.
        cycles: Cycles that the pipe of one sub-partition is busy.
        shared_bytes: Bytes of shared memory it moves besides.
        products: Multiply-adds on the tensor cores.
    """

    pipe: str
    cycles: float = 0.0
    shared_bytes: float = 0.0
    products: float = 0.0


def cost(instruction: Instruction, arch: Architecture, sm_shape: Shape | None = None) -> Cost:
    """Return what one instruction occupies.

    Args:
        sm_shape: (M, N, K) of one ``UTC*`` product, whose opcode does not tell.
    """
    base = instruction.base
    if base in opcodes.MMA:
        return _mma_cost(instruction, arch, sm_shape)
    if base == "MUFU" or base in opcodes.CONVERSION:
        return Cost("special", _lane_cycles(arch.special))
    if base in opcodes.FP32:
        return Cost("fp32", _lane_cycles(arch.fp32))
    if base in opcodes.FP32_PAIR:
        return Cost("fp32", 2 * _lane_cycles(arch.fp32))
    if base.startswith("IMAD") or base in ("IDP", "IMUL"):
        return Cost("integer", _lane_cycles(arch.integer_multiply))
    if base == "SHFL":
        return Cost("shared", _SHUFFLE_CYCLES, _SHUFFLE_BYTES)
    moved = _LANES * opcodes.access_bytes(instruction)
    if base in opcodes.SHARED_ACCESS:
        return Cost("shared", PARTITIONS * moved / arch.shared_bytes, moved)
    if base in opcodes.GLOBAL_ACCESS:
        return Cost("l2", PARTITIONS * moved / arch.l2_bytes, moved)
    if base in opcodes.ISSUE_ONLY:
        return Cost("issue")
    if base.startswith("U"):
        return Cost("uniform", _UNIFORM_CYCLES)
    return Cost("alu", _lane_cycles(arch.alu))


def pipe_cycles(
    instructions: Sequence[Instruction],
    arch: Architecture,
    *,
    warps: int,
    sm_shape: Shape | None = None,
    tma_bytes: float = 0.0,
) -> tuple[dict[str, float], float]:
    """Return (busy cycles by pipe, tensor-core multiply-adds) of one iteration of one block.

    Args:
        warps: Warps of the block that run these instructions.
        tma_bytes: Bytes that bulk copies bring to shared memory in one iteration.
    """
    busy: Counter[str] = Counter()
    products, shared = 0.0, tma_bytes / arch.shared_bytes
    share = warps / PARTITIONS
    for instruction in instructions:
        spent = cost(instruction, arch, sm_shape)
        by_one_thread = instruction.base.startswith("UTC")
        if instruction.base != "NOP":
            busy["issue"] += 1 / PARTITIONS if by_one_thread else share
        if spent.pipe == "tensor":
            issues = 1 if by_one_thread else share if instruction.base in opcodes.GROUP_MMA else warps
            busy["tensor"] += spent.cycles * (1 if by_one_thread else share)
            products += spent.products * issues
            shared += spent.shared_bytes / arch.shared_bytes * issues
        elif spent.pipe == "shared":
            shared += spent.cycles / PARTITIONS * warps
        elif spent.pipe == "l2":
            busy["l2"] += spent.cycles / PARTITIONS * warps
            if instruction.base == "LDGSTS":
                shared += spent.shared_bytes / arch.shared_bytes * warps
        elif spent.pipe != "issue":
            busy[spent.pipe] += spent.cycles * share
    _share_fp32_pipe(busy, arch)
    busy["shared"] = shared
    if tma_bytes:
        busy["l2"] += tma_bytes / arch.l2_bytes
    return {pipe: round(cycles, 1) for pipe, cycles in busy.items() if cycles}, products


def _share_fp32_pipe(busy: Counter[str], arch: Architecture) -> None:
    """Integer multiplies run on one half of the fp32 pipe; the other half does fp32 alone."""
    integer = busy.pop("integer", 0.0)
    together = busy["fp32"] + integer * _lane_cycles(arch.fp32) / _lane_cycles(arch.integer_multiply)
    busy["fp32"] = max(together, integer)


def _lane_cycles(results_per_clock: float) -> float:
    """Cycles of one warp instruction in a sub-partition, from results a clock of the SM."""
    return _LANES / (results_per_clock / PARTITIONS)


def _mma_cost(instruction: Instruction, arch: Architecture, sm_shape: Shape | None) -> Cost:
    by_sm = instruction.base in opcodes.SM_MMA
    shape = (sm_shape or _DEFAULT_SM_SHAPE) if by_sm else opcodes.mma_shape(instruction)
    if shape is None:
        raise ValueError(f"cost: {instruction.opcode} at {instruction.address:#x} names no shape known to the model.")
    rows, columns, depth = shape
    products = rows * columns * depth
    # One tcgen05 product is 32 bytes deep: its depth tells the type, and with it the rate.
    faster = depth / _DEFAULT_SM_SHAPE[2] if by_sm else opcodes.mma_rate(instruction)
    if instruction.base in opcodes.WARP_MMA:
        rate = arch.tensor * faster * arch.warp_mma_share / PARTITIONS
        return Cost("tensor", products / rate, 0.0, products)
    element_bytes = _BF16_BYTES / faster
    left = 0.0 if _first_operand_elsewhere(instruction, by_sm) else rows * depth * element_bytes
    return Cost("tensor", products / (arch.tensor * faster), left + columns * depth * element_bytes, products)


def _first_operand_elsewhere(instruction: Instruction, by_sm: bool) -> bool:
    """Whether the left operand comes from registers (wgmma) or tensor memory (tcgen05)."""
    if by_sm:
        return "tmem[" in instruction.operands.split(",")[0]
    return re.match(r"R\d+, R\d+", instruction.operands) is not None
