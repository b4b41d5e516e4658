"""Control flow (PTX ISA, sections "Control Flow Instructions" and "Miscellaneous Instructions")."""

from __future__ import annotations

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction


@instruction("bra[.uni]")
def branch(block: Block, inst: Instruction) -> None:
    block.threads.branch(inst.target)


@instruction("exit")
def leave(block: Block, inst: Instruction) -> None:
    block.threads.exit(block.active)


@instruction("trap", "brkpt")
def trap(block: Block, inst: Instruction) -> None:
    raise block.fail("trap", "the kernel stopped itself", block.lanes)


@instruction("nanosleep.u32", "pmevent[.mask]")
def no_effect(block: Block, inst: Instruction) -> None:
    """Time is not modelled."""


@instruction("setmaxnreg.(inc|dec).sync.aligned.u32")
def set_register_count(block: Block, inst: Instruction) -> None:
    """Registers are not counted."""
