"""Runs the instructions of one block until its threads have ended, or for a while."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.module import Instruction


def run_block(block: Block, limit: int) -> tuple[bool, int]:
    """Run at most ``limit`` instructions; return whether the block has ended, and how many it ran.

    Raises:
        PtxError: At the first fault, with the place filled in.
    """
    threads, program = block.threads, block.program
    instructions, handlers, guarded = program.instructions, program.handlers, program.wgmma_registers
    everyone = block.everyone
    steps = 0
    while steps < limit:
        front = threads.next()
        if front is None:
            if not threads.exited.all():
                # Nothing that other blocks do could help: barriers belong to their block.
                raise _located(_deadlock(block), block, None)
            try:
                block.bulk_copies.end()
            except PtxError as fault:
                raise _located(fault, block, None) from None
            return True, steps
        steps += 1
        pc, mask = front
        instruction = instructions[pc]
        threads.pc = block.clocks.site = pc
        threads.moved = threads.absorbed = None
        try:
            if instruction.guard is not None:
                chosen = mask & block.read(instruction.guard, "pred")
                # One identity for "all threads" spares every instruction a comparison.
                block.set_active(everyone if chosen.all() else chosen)
            elif block.active is not mask:
                block.set_active(mask)
            if len(block.lanes):
                if guarded and not guarded.isdisjoint(instruction.touched) and instruction.opcode != "wgmma":
                    block.warpgroups.touch(instruction)
                handlers[pc](block, instruction)
        except PtxError as fault:
            raise _located(fault, block, instruction) from None
        moved = threads.moved
        if threads.absorbed is not None:
            mask = mask | threads.absorbed
            mask = everyone if mask.all() else mask
        if moved is None:
            threads.enqueue(pc + 1, mask)
        elif moved is not mask:
            rest = mask & ~moved
            if rest.any():
                threads.enqueue(pc + 1, rest)
    return False, steps


def _deadlock(block: Block) -> PtxError:
    for mask, fault in block.threads.parked.values():
        fault.threads = fault.threads or tuple(np.nonzero(mask)[0].tolist())
        return fault
    waiting = np.nonzero(~block.threads.exited)[0]
    reasons = "; ".join(filter(None, (block.barriers.describe(), block.mbarriers.describe())))
    return block.fail("deadlock", f"no thread can go on: {reasons}", waiting)


def _located(fault: PtxError, block: Block, instruction: Instruction | None) -> PtxError:
    if instruction is not None and not fault.instruction:
        fault.instruction, fault.source = instruction.text, instruction.source
    if not fault.threads and instruction is not None:
        fault.threads = tuple(block.lanes.tolist())
    fault.kernel, fault.block = block.program.name, block.index
    return fault
