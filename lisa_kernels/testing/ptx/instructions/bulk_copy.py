"""Bulk copies of bytes in a row (PTX ISA, section "Data Movement and Conversion Instructions: cp.async.bulk,
cp.reduce.async.bulk")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.bulk_copies import GRAIN, Box
from lisa_kernels.testing.ptx.instructions.mbarrier import mbarrier_addresses
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction

HINT = "[.L2::cache_hint]"


@instruction(f"cp.async.bulk.(shared::cluster|shared::cta).global.mbarrier::complete_tx::bytes{HINT}")
def load(block: Block, inst: Instruction) -> None:
    target, source, size, barrier, *_ = inst.operands
    barriers = mbarrier_addresses(block, inst, barrier)
    for i, box in enumerate(_boxes(block, target, source, size)):
        lane = int(block.lanes[i])
        block.bulk_copies.load(box, block.mbarriers.find(int(barriers[i]), lane), lane, inst)


@instruction(f"cp.async.bulk.global.shared::cta.bulk_group{HINT}")
def store(block: Block, inst: Instruction) -> None:
    target, source, size, *_ = inst.operands
    for lane, box in zip(block.lanes.tolist(), _boxes(block, source, target, size), strict=True):
        block.bulk_copies.store(box, lane, inst)


@instruction(
    f"cp.reduce.async.bulk.global.shared::cta.bulk_group{HINT}.add.(u32|s32|u64|f32|f64)",
    f"cp.reduce.async.bulk.global.shared::cta.bulk_group{HINT}.add.noftz.(f16|bf16)",
    f"cp.reduce.async.bulk.global.shared::cta.bulk_group{HINT}.(min|max).(u32|s32|u64|s64|f16|bf16)",
    f"cp.reduce.async.bulk.global.shared::cta.bulk_group{HINT}.(and|or|xor).(b32|b64)",
)
def reduce(block: Block, inst: Instruction) -> None:
    target, source, size, *_ = inst.operands
    operation = next(m for m in inst.modifiers if m in ("add", "min", "max", "and", "or", "xor"))
    for lane, box in zip(block.lanes.tolist(), _boxes(block, source, target, size), strict=True):
        block.bulk_copies.store(box, lane, inst, reduction=(operation, inst.type))


@instruction(f"cp.async.bulk.prefetch.L2.global{HINT}")
def prefetch(block: Block, inst: Instruction) -> None:
    """Checked as a read would be; caches are not modelled."""
    source, size, *_ = inst.operands
    addresses = block.addresses(source)
    check_multiple(block, addresses, GRAIN, "an address in global memory")
    for lane, address, count in zip(block.lanes, addresses, _sizes(block, size), strict=True):
        block.launch.global_memory.find(np.array([address]), int(count), np.array([lane]))


@instruction("cp.async.bulk.commit_group")
def commit(block: Block, inst: Instruction) -> None:
    block.bulk_copies.commit()


@instruction("cp.async.bulk.wait_group[.read]")
def wait(block: Block, inst: Instruction) -> None:
    block.bulk_copies.wait(inst.operands[0].value, read="read" in inst.modifiers)


def _boxes(block: Block, shared, outside, size) -> list[Box]:
    offsets, addresses = block.addresses(shared), block.addresses(outside)
    check_multiple(block, offsets, GRAIN, "an address in shared memory")
    check_multiple(block, addresses, GRAIN, "an address in global memory")
    sizes = _sizes(block, size)
    return [Box.of_line(int(o), int(a), int(s)) for o, a, s in zip(offsets, addresses, sizes, strict=True)]


def _sizes(block: Block, size) -> np.ndarray:
    sizes = block.read(size, "u32")[block.lanes].astype(np.int64)
    check_multiple(block, sizes, GRAIN, "a size")
    return sizes


def check_multiple(block: Block, values: np.ndarray, unit: int, what: str) -> None:
    """Fault of kind ``misaligned`` if an active thread's value is no multiple of ``unit``."""
    odd = values % unit != 0
    if odd.any():
        detail = f"{what} of a bulk copy is {int(values[odd][0]):#x}, no multiple of {unit}"
        raise block.fail("misaligned", detail, block.lanes[odd])
