"""Barriers in shared memory that count arrivals and bytes (PTX ISA, section "Parallel Synchronization and Communication
Instructions: mbarrier").

A phase is complete when no arrival is pending and its transaction count is zero.  Bulk copies and cp.async report to an
mbarrier as late as they may: when a thread waits for the phase that they complete.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.clocks import Knowledge
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.shared import MBARRIER

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block
    from lisa_kernels.testing.ptx.bulk_copies import BulkLoad

_LARGEST = (1 << 20) - 1


@dataclasses.dataclass(eq=False)
class MBarrier:
    """One mbarrier.

    Attributes:
        expected: Arrivals of a phase; ``pending`` of them have not come.
        transactions: Bytes expected in this phase that have not come.
        phase: Phases completed.
        initialised: Stamp of its init.
        gathered: What those who arrived in this phase had done; ``released`` is that of complete phases.
        loads: Bulk copies that will report to it.
        thread_copies: Threads whose cp.async before a serial number arrive when they are complete.
        awaited: Whether a thread waited in vain.
    """

    address: int
    expected: int
    engine: int
    initialised: np.ndarray
    pending: int
    transactions: int = 0
    phase: int = 0
    gathered: Knowledge | None = None
    released: Knowledge | None = None
    loads: list[BulkLoad] = dataclasses.field(default_factory=list)
    thread_copies: list[tuple[np.ndarray, int]] = dataclasses.field(default_factory=list)
    awaited: bool = False

    @property
    def bytes_under_way(self) -> int:
        return sum(load.box.size for load in self.loads)

    def gather(self, knowledge: Knowledge) -> None:
        self.gathered = knowledge if self.gathered is None else knowledge.merged(self.gathered)

    def describe(self) -> str:
        arrived = self.expected - self.pending
        text = f"the mbarrier at shared byte {self.address} has {arrived} of {self.expected} arrivals in its phase"
        text += f" {self.phase}, expects {self.transactions} more bytes"
        return f"{text}, and copies of {self.bytes_under_way} bytes are under way"


class MBarriers:
    """The mbarriers of one block, by their offset in shared memory."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._barriers: dict[int, MBarrier] = {}
        self._made = 0

    def init(self, address: int, count: int, lane: int) -> None:
        """``mbarrier.init``."""
        block, lanes = self.block, np.array([lane])
        if address in self._barriers:
            raise self._misuse(
                f"the mbarrier at shared byte {address} is initialised again before mbarrier.inval", lane
            )
        if not 1 <= count <= _LARGEST:
            raise self._misuse(f"an mbarrier expects {count} arrivals; it takes 1 to {_LARGEST}", lane)
        block.memory.note("shared", np.array([address]), 8, lanes, writes=True)
        block.shared.mark(np.arange(address, address + 8), MBARRIER)
        engine = block.clocks.engine(self._made)
        self._made += 1
        stamp = block.clocks.stamps(block.warps[lanes])
        self._barriers[address] = MBarrier(address, count, engine, stamp, pending=count)

    def invalidate(self, address: int, lane: int) -> None:
        """``mbarrier.inval``."""
        barrier = self.find(address, lane)
        if barrier.loads or barrier.thread_copies:
            raise self._misuse("an mbarrier is invalidated while copies that report to it are under way", lane)
        del self._barriers[address]
        self.block.shared.mark(np.arange(address, address + 8), 0)
        self.block.shared.settle()
        self.block.memory.note("shared", np.array([address]), 8, np.array([lane]), writes=True)

    def find(self, address: int, lane: int) -> MBarrier:
        """Return the mbarrier at an address for an access by a thread.

        Raises:
            PtxError: There is none, or its init is not ordered before this access.
        """
        barrier = self._barriers.get(address)
        if barrier is None:
            raise self._misuse(f"no mbarrier is initialised at shared byte {address}", lane)
        clocks, history = self.block.clocks, self.block.shared.history
        if history is not None:
            warp = self.block.warps[[lane]]
            if not clocks.knows(warp, barrier.initialised)[0]:
                detail = "nothing orders the init of an mbarrier by another warp before this access"
                raise PtxError(
                    "shared race", f"{detail} (shared memory, byte {address})", threads=(lane,), offset=address
                )
            # Initialising or invalidating it must be ordered after this access.
            history.reads[warp[0], address : address + 8] = clocks.now[warp[0]]
            history.last_read[address : address + 8] = clocks.now[warp[0]]
        return barrier

    def arrive(
        self, address: int, lanes: np.ndarray, counts: np.ndarray, *, transactions: int = 0, releases: bool = True,
        drops: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """Threads of one warp arrive at one mbarrier; return each one's state of the phase before.

        Args:
            counts: Arrivals of each thread; 0 only expects bytes.
            transactions: Bytes that each thread expects beforehand.
            releases: Who waits is ordered after what the threads did.
            drops: They do not take part in later phases.
        """
        clocks, barrier = self.block.clocks, self.find(address, int(lanes[0]))
        agent = self.block.warps[lanes[:1]]
        known = clocks.snapshot(agent) if releases else None
        states = np.zeros(len(lanes), np.uint64)
        for i, (lane, count) in enumerate(zip(lanes.tolist(), counts.tolist(), strict=True)):
            states[i] = barrier.phase << 20 | barrier.pending
            self._change_transactions(barrier, transactions, lane)
            if known is not None and count:
                barrier.gather(known)
            if count > barrier.pending:
                raise self._misuse(f"{count} arrivals come too many: {barrier.describe()}", lane)
            if drops:
                barrier.expected -= count
            barrier.pending -= count
            self._complete_if_due(barrier)
        if known is not None:
            clocks.advance(agent)
        self.block.threads.progress()
        return states

    def transact(self, address: int, number: int, lane: int) -> None:
        """``mbarrier.expect_tx``, or ``complete_tx`` with a negative number."""
        barrier = self.find(address, lane)
        self._change_transactions(barrier, number, lane)
        self._complete_if_due(barrier)
        self.block.threads.progress()

    def arrive_after_copies(self, address: int, lanes: np.ndarray, *, counted: bool) -> None:
        """``cp.async.mbarrier.arrive``: threads arrive when their cp.async so far are complete.

        Args:
            counted: With ``.noinc``: these arrivals are among those that the phase expects.
        """
        barrier = self.find(address, int(lanes[0]))
        waiting = sum(len(threads) for threads, _ in barrier.thread_copies)
        if not counted:
            barrier.pending += len(lanes)
        elif waiting + len(lanes) > barrier.pending:
            raise self._misuse(f"{len(lanes)} arrivals come too many: {barrier.describe()}", int(lanes[0]))
        barrier.thread_copies.append((lanes, self.block.copies.serial))
        self.block.threads.progress()

    def wait(self, address: int, lanes: np.ndarray, *, parity: int | None, state: int, acquires: bool) -> bool:
        """Return whether the phase that threads of one warp wait for is complete, and order them after it.

        Args:
            parity: Of the phase; None to take it from ``state``, the result of an arrival.
        """
        barrier = self.find(address, int(lanes[0]))
        if parity not in (None, 0, 1):
            raise self._misuse(f"an mbarrier's phase has parity {parity}; it takes 0 and 1", int(lanes[0]))
        if parity is None and barrier.phase - (state >> 20) not in (0, 1):
            detail = f"a state of phase {state >> 20} is waited for, and the mbarrier is in phase {barrier.phase}"
            raise self._misuse(detail, int(lanes[0]))

        def is_complete() -> bool:
            return barrier.phase & 1 != parity if parity is not None else barrier.phase > state >> 20

        if not is_complete():
            self._land(barrier, int(lanes[0]))
        if not is_complete():
            barrier.awaited = True
            return False
        if acquires and barrier.released is not None:
            self.block.clocks.join(self.block.warps[lanes[:1]], barrier.released)
        return True

    def _land(self, barrier: MBarrier, lane: int) -> None:
        """Let the copies that report to an mbarrier happen, if they complete its phase."""
        threads = sum(len(lanes) for lanes, _ in barrier.thread_copies)
        if barrier.pending != threads:
            return
        if barrier.bytes_under_way > barrier.transactions:
            raise self._misuse(f"copies bring more bytes than are expected: {barrier.describe()}", lane)
        if barrier.bytes_under_way < barrier.transactions:
            return
        block = self.block
        done = block.clocks.engine_tick(barrier.engine)
        stamp = block.clocks.stamps(np.array([barrier.engine]))
        for load in barrier.loads:
            load.land(block, stamp)
        for lanes, serial in barrier.thread_copies:
            block.copies.finish(lanes, serial, stamp)
            # Their writes are the generic proxy's.
            done.proxied[:] = 0
        barrier.gather(done)
        barrier.loads, barrier.thread_copies, barrier.pending, barrier.transactions = [], [], 0, 0
        block.shared.settle()
        self._complete_if_due(barrier)

    def _complete_if_due(self, barrier: MBarrier) -> None:
        if barrier.pending or barrier.transactions or barrier.thread_copies:
            return
        barrier.phase += 1
        barrier.pending = barrier.expected
        barrier.awaited = False
        if barrier.gathered is not None:
            earlier = barrier.released
            barrier.released = barrier.gathered if earlier is None else barrier.gathered.merged(earlier)
        barrier.gathered = None
        self.block.threads.progress()

    def _change_transactions(self, barrier: MBarrier, number: int, lane: int) -> None:
        barrier.transactions += number
        if abs(barrier.transactions) > _LARGEST:
            raise self._misuse(f"the transaction count leaves its range of +-{_LARGEST}: {barrier.describe()}", lane)

    def loads_under_way(self) -> list[BulkLoad]:
        """Bulk copies that nobody has waited for."""
        return [load for barrier in self._barriers.values() for load in barrier.loads]

    def describe(self) -> str:
        """The mbarriers that are waited for, for a deadlock's message."""
        return "; ".join(barrier.describe() for barrier in self._barriers.values() if barrier.awaited)

    def _misuse(self, detail: str, lane: int) -> PtxError:
        return PtxError("mbarrier misuse", detail, threads=(lane,))
