"""Barriers of a thread block (PTX ISA, section "Parallel Synchronization and Communication Instructions: bar").

Sixteen barriers; one without a thread count expects every thread that has not ended.  All who wait see what all who
arrived had done.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.clocks import Knowledge
from lisa_kernels.testing.ptx.operands import Operand

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block


@dataclasses.dataclass
class _Barrier:
    """One barrier between two releases; ``expected`` is 0 for all threads."""

    expected: int
    arrived: np.ndarray
    waiting: list[tuple[int, np.ndarray]] = dataclasses.field(default_factory=list)
    knowledge: Knowledge | None = None
    # Reduction: operation, destination, contributions.
    operation: str = ""
    destination: Operand | None = None
    values: np.ndarray | None = None
    instruction: str = ""


_REDUCTIONS = {"popc": np.count_nonzero, "and": np.all, "or": np.any}


class Barriers:
    """The barriers of one block."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._pending: dict[int, _Barrier] = {}

    def arrive(
        self,
        number: int,
        expected: int,
        *,
        waits: bool,
        operation: str = "",
        destination: Operand | None = None,
        values: np.ndarray | None = None,
    ) -> None:
        """The active lanes come to a barrier.

        Args:
            expected: Threads that make it complete; 0 for all.
            waits: False for ``bar.arrive``.
            operation: Of ``bar.red``: ``popc``, ``and``, ``or``; its result goes to ``destination``.
            values: Each lane's contribution.
        """
        block, mask = self.block, self.block.active
        if not 0 <= number < 16:
            raise block.fail("unsupported", f"barrier {number}; there are 0 to 15", block.lanes)
        barrier = self._pending.get(number)
        if barrier is None:
            barrier = self._pending[number] = _Barrier(expected, np.zeros(block.count, bool))
        if barrier.expected != expected:
            counts = f"{barrier.expected or 'all'} threads for some and {expected or 'all'} for others"
            raise block.fail("divergent barrier", f"barrier {number} expects {counts}", block.lanes)
        if (barrier.arrived & mask).any():
            detail = f"barrier {number} is reached again before it was complete"
            raise block.fail("divergent barrier", detail, np.nonzero(barrier.arrived & mask)[0])
        barrier.instruction = f"barrier {number}"
        barrier.arrived = barrier.arrived | mask
        agents = block.active_warps()
        known = block.clocks.snapshot(agents)
        barrier.knowledge = known if barrier.knowledge is None else known.merged(barrier.knowledge)
        if operation:
            barrier.operation, barrier.destination = operation, destination
            old = np.zeros(block.count, bool) if barrier.values is None else barrier.values
            barrier.values = np.where(mask, values, old)
        if waits:
            block.threads.suspend(mask)
            barrier.waiting.append((block.threads.pc + 1, mask))
        self._release(number)
        if not waits and number in self._pending:
            # What follows an arrival is not covered by it.
            block.clocks.advance(agents)

    def thread_exited(self) -> None:
        """A barrier for all threads no longer waits for those that ended."""
        for number in list(self._pending):
            self._release(number)

    def _release(self, number: int) -> None:
        barrier, block = self._pending[number], self.block
        arrived = barrier.arrived
        if barrier.expected:
            if np.count_nonzero(arrived) < barrier.expected:
                return
        elif not (arrived | block.threads.exited).all() or not arrived.any():
            return
        del self._pending[number]
        waiting = np.zeros(block.count, bool)
        for _, mask in barrier.waiting:
            waiting |= mask
        agents = np.unique(block.warps[waiting])
        if len(agents):
            block.clocks.join(agents, barrier.knowledge)
            block.clocks.advance(agents)
        if barrier.operation:
            self._write_result(barrier, waiting)
        block.threads.progress(changes_state=False)
        for pc, mask in barrier.waiting:
            block.threads.enqueue(pc, mask)

    def _write_result(self, barrier: _Barrier, waiting: np.ndarray) -> None:
        block = self.block
        result = _REDUCTIONS[barrier.operation](barrier.values[barrier.arrived])
        current = block.active
        block.set_active(waiting)
        block.write(
            barrier.destination, np.full(block.count, result, np.uint32 if barrier.operation == "popc" else bool)
        )
        block.set_active(current)

    def describe(self) -> str:
        """Who waits where, for a deadlock's message."""
        parts = []
        for number, barrier in self._pending.items():
            expected = barrier.expected or np.count_nonzero(~self.block.threads.exited)
            parts.append(f"barrier {number} has {np.count_nonzero(barrier.arrived)} of {expected} threads")
        return "; ".join(parts)
