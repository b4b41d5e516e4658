"""Runs the instructions of one block until its threads have ended, or for a while."""

from __future__ import annotations

import enum

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.spinning import SpinWatch


class State(enum.Enum):
    """Why a block stopped running."""

    ENDED = enum.auto()
    # Others get their turn.
    PAUSED = enum.auto()
    # It runs in a circle until another block changes memory.
    SPINNING = enum.auto()


def run_block(block: Block, limit: int) -> tuple[State, int]:
    """Run at most ``limit`` instructions; return why the block stopped, and how many it ran.

    Raises:
        PtxError: At the first fault, with the place filled in.
    """
    threads, program = block.threads, block.program
    instructions, handlers, guarded = program.instructions, program.handlers, program.wgmma_registers
    everyone = block.everyone
    steps, watch = 0, SpinWatch(block)
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
            return State.ENDED, steps
        pc, mask = front
        if pc == watch.pc and watch.is_back(mask):
            threads.enqueue(pc, mask)
            return State.SPINNING, steps
        if steps == watch.due:
            watch.remember(pc, mask)
        steps += 1
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
    return State.PAUSED, steps


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
