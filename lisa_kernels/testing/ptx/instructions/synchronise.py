"""Barriers of a block and of a warp (PTX ISA, section "Parallel Synchronization and Communication Instructions: bar,
barrier, bar.warp.sync")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.warp import assemble, assemble_members
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Operand
from lisa_kernels.testing.ptx.syntax import instruction


@instruction("bar[.cta].sync", "barrier[.cta].sync[.aligned]", "bar[.cta].arrive", "barrier[.cta].arrive[.aligned]")
def barrier(block: Block, inst: Instruction) -> None:
    if not _aligned(block, inst):
        return
    number = uniform(block, inst.operands[0], "barrier")
    expected = _expected(block, inst.operands[1:])
    block.barriers.arrive(number, expected, waits="sync" in inst.modifiers)


@instruction(
    "bar[.cta].red.popc.u32", "bar[.cta].red.(and|or).pred", "barrier[.cta].red.popc[.aligned].u32",
    "barrier[.cta].red.(and|or)[.aligned].pred",
)  # fmt: skip
def barrier_reduction(block: Block, inst: Instruction) -> None:
    if not _aligned(block, inst):
        return
    target, number, *count, source = inst.operands
    operation = next(modifier for modifier in inst.modifiers if modifier in ("popc", "and", "or"))
    block.barriers.arrive(
        uniform(block, number, "barrier"), _expected(block, tuple(count)), waits=True, operation=operation,
        destination=target, values=block.read(source, "pred"),
    )  # fmt: skip


@instruction("bar.warp.sync")
def warp_barrier(block: Block, inst: Instruction) -> None:
    # Threads of one warp run together here: only the mask is looked at.
    assemble_members(block, inst.operands[0])


def _aligned(block: Block, inst: Instruction) -> bool:
    """bar, and barrier with .aligned, want whole warps; on sm_70 and up nobody waits for threads that have ended."""
    if inst.opcode == "barrier" and "aligned" not in inst.modifiers:
        return True
    if block.full:
        return True
    needed = np.isin(block.warps, block.active_warps())
    return assemble(block, needed, "divergent barrier", "all threads of a warp must come to it together")


def _expected(block: Block, operands: tuple[Operand, ...]) -> int:
    if not operands:
        return 0
    count = uniform(block, operands[0], "thread count")
    if count % 32 or not 0 < count <= block.count:
        detail = f"a barrier expects {count} threads; it takes a multiple of 32 up to {block.count}"
        raise block.fail("divergent barrier", detail, block.lanes)
    # A count that names every thread still counts arrivals.
    return count


def uniform(block: Block, operand: Operand, what: str) -> int:
    """The one value that all active lanes give an operand."""
    values = block.read(operand, "u32")[block.lanes]
    if (values != values[0]).any():
        raise block.fail("unsupported", f"threads at one barrier name different values of {what}", block.lanes)
    return int(values[0])
