"""Asynchronous copies by threads (PTX ISA, section "Data Movement and Conversion Instructions: cp.async")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction

_HINTS = "[.L2::cache_hint][.L2::64B|.L2::128B|.L2::256B]"


@instruction(f"cp.async.ca.shared[::cta].global{_HINTS}", f"cp.async.cg.shared[::cta].global{_HINTS}")
def copy(block: Block, inst: Instruction) -> None:
    target, source, size, *rest = inst.operands
    width = size.value
    allowed = (16,) if "cg" in inst.modifiers else (4, 8, 16)
    if width not in allowed:
        raise block.fail("unsupported", f"cp.async copies {width} bytes; it takes {allowed}", block.lanes)
    if "L2::cache_hint" in inst.modifiers:
        rest = rest[:-1]
    source_sizes = np.full(len(block.lanes), width)
    if rest:
        source_sizes = block.read(rest[0], "u32")[block.lanes].astype(np.int64)
        if (source_sizes > width).any():
            raise block.fail("out of bounds", f"cp.async reads more than the {width} bytes it writes", block.lanes)
    block.copies.start(block.addresses(target), block.addresses(source), source_sizes, width)


@instruction("cp.async.commit_group")
def commit(block: Block, inst: Instruction) -> None:
    block.copies.commit()


@instruction("cp.async.wait_group", "cp.async.wait_all")
def wait(block: Block, inst: Instruction) -> None:
    block.copies.wait(inst.operands[0].value if inst.operands else None)
