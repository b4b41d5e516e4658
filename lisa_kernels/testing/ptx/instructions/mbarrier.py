"""Barriers in shared memory (PTX ISA, section "Parallel Synchronization and Communication Instructions: mbarrier").

A ``.shared::cluster`` address is one of the own block: a cluster is one block here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.memory import WINDOWS
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Address, Operand
from lisa_kernels.testing.ptx.syntax import instruction

_OWN = "[.shared|.shared::cta]"
_ANY = "[.shared|.shared::cta|.shared::cluster]"
_RELEASE = "[.release.cta|.release.cluster|.relaxed.cta|.relaxed.cluster]"
_ACQUIRE = "[.acquire.cta|.acquire.cluster|.relaxed.cta|.relaxed.cluster]"
_RELAXED = "[.relaxed.cta|.relaxed.cluster]"


@instruction(f"mbarrier.init{_OWN}.b64")
def init(block: Block, inst: Instruction) -> None:
    counts = block.read(inst.operands[1], "u32")[block.lanes]
    for address, count, lane in zip(
        mbarrier_addresses(block, inst, inst.operands[0]), counts, block.lanes, strict=True
    ):
        block.mbarriers.init(int(address), int(count), int(lane))


@instruction(f"mbarrier.inval{_OWN}.b64")
def invalidate(block: Block, inst: Instruction) -> None:
    for address, lane in zip(mbarrier_addresses(block, inst, inst.operands[0]), block.lanes, strict=True):
        block.mbarriers.invalidate(int(address), int(lane))


@instruction(
    f"mbarrier.arrive{_RELEASE}{_ANY}.b64", f"mbarrier.arrive_drop{_RELEASE}{_ANY}.b64",
    f"mbarrier.arrive{_RELEASE}{_OWN}.noComplete.b64", f"mbarrier.arrive_drop{_RELEASE}{_OWN}.noComplete.b64",
    f"mbarrier.arrive.noComplete{_RELEASE}{_OWN}.b64", f"mbarrier.arrive_drop.noComplete{_RELEASE}{_OWN}.b64",
)  # fmt: skip
def arrive(block: Block, inst: Instruction) -> None:
    target, address, *count = inst.operands
    counts = block.read(count[0], "u32").astype(np.int64) if count else np.ones(block.count, np.int64)
    if "noComplete" in inst.modifiers:
        for place, lanes in _by_mbarrier(block, inst, address):
            if counts[lanes].sum() >= block.mbarriers.find(place, int(lanes[0])).pending:
                raise block.fail("mbarrier misuse", "an arrival with .noComplete completes a phase", lanes)
    _arrive(block, inst, target, address, counts=counts)


@instruction(f"mbarrier.arrive.expect_tx{_RELEASE}{_ANY}.b64", f"mbarrier.arrive_drop.expect_tx{_RELEASE}{_ANY}.b64")
def arrive_and_expect(block: Block, inst: Instruction) -> None:
    target, address, transactions = inst.operands
    _arrive(
        block, inst, target, address,
        counts=np.ones(block.count, np.int64), transactions=block.read(transactions, "u32").astype(np.int64),
    )  # fmt: skip


@instruction(f"mbarrier.(expect_tx|complete_tx){_RELAXED}{_ANY}.b64")
def transact(block: Block, inst: Instruction) -> None:
    address, number = inst.operands
    sign = 1 if inst.modifiers[0] == "expect_tx" else -1
    numbers = block.read(number, "u32")[block.lanes].astype(np.int64) * sign
    for place, transactions, lane in zip(mbarrier_addresses(block, inst, address), numbers, block.lanes, strict=True):
        block.mbarriers.transact(int(place), int(transactions), int(lane))


@instruction(
    f"mbarrier.(try_wait|test_wait){_ACQUIRE}{_OWN}.b64", f"mbarrier.(try_wait|test_wait).parity{_ACQUIRE}{_OWN}.b64"
)
def wait(block: Block, inst: Instruction) -> None:
    """The result is false only when no other thread can go on; a hint how long to wait is not looked at."""
    target, address, phase, *_ = inst.operands
    by_parity = "parity" in inst.modifiers
    phases = block.read(phase, "u32" if by_parity else "u64")
    acquires = "relaxed" not in inst.modifiers
    done = np.zeros(block.count, bool)
    for place, lanes in _by_mbarrier(block, inst, address):
        for value in np.unique(phases[lanes]):
            chosen = lanes[phases[lanes] == value]
            # Triton's warp-specialised loops give all ones for odd.
            parity, state = (1 if value == 0xFFFFFFFF else int(value), 0) if by_parity else (None, int(value))
            done[chosen] = block.mbarriers.wait(place, chosen, parity=parity, state=state, acquires=acquires)
    block.write(target, done)
    failed = block.active & ~done
    if failed.any():
        block.threads.defer(failed)


@instruction("mbarrier.pending_count.b64")
def pending_count(block: Block, inst: Instruction) -> None:
    target, state = inst.operands
    block.write(target, (block.read(state, "u64") & np.uint64((1 << 20) - 1)).astype(np.uint32))


@instruction(f"cp.async.mbarrier.arrive[.noinc]{_OWN}.b64")
def arrive_after_copies(block: Block, inst: Instruction) -> None:
    for place, lanes in _by_mbarrier(block, inst, inst.operands[0]):
        block.mbarriers.arrive_after_copies(place, lanes, counted="noinc" in inst.modifiers)


def _arrive(
    block: Block, inst: Instruction, target: Operand, address: Operand, *, counts: np.ndarray,
    transactions: np.ndarray | None = None,
) -> None:  # fmt: skip
    states = np.zeros(block.count, np.uint64)
    for place, lanes in _by_mbarrier(block, inst, address):
        expected = np.zeros(1, np.int64) if transactions is None else transactions[lanes]
        if (expected != expected[0]).any():
            raise block.fail("unsupported", "threads of one warp expect different numbers of bytes", lanes)
        states[lanes] = block.mbarriers.arrive(
            place, lanes, counts[lanes], transactions=int(expected[0]),
            releases="relaxed" not in inst.modifiers, drops="arrive_drop" in inst.modifiers,
        )  # fmt: skip
    block.write(target, states)


def _by_mbarrier(block: Block, inst: Instruction, operand: Operand) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (offset of an mbarrier, active threads of one warp that name it)."""
    addresses, warps = mbarrier_addresses(block, inst, operand), block.warps[block.lanes]
    if len(addresses) == 1:
        yield int(addresses[0]), block.lanes
        return
    for warp in np.unique(warps):
        for address in np.unique(addresses[warps == warp]):
            yield int(address), block.lanes[(warps == warp) & (addresses == address)]


def mbarrier_addresses(block: Block, inst: Instruction, operand: Address) -> np.ndarray:
    """Offsets in shared memory that the active threads name; without ``.shared`` their addresses are generic."""
    addresses = block.addresses(operand)
    if not any(modifier.startswith("shared") for modifier in inst.modifiers):
        addresses = addresses - WINDOWS["shared"]
    outside = (addresses < 0) | (addresses + 8 > block.shared.size)
    if outside.any():
        raise block.fail("out of bounds", "an mbarrier outside shared memory", block.lanes[outside])
    if (addresses % 8).any():
        raise block.fail("misaligned", "an mbarrier at no multiple of 8 bytes", block.lanes[addresses % 8 != 0])
    return addresses
