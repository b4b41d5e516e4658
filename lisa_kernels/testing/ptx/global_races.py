"""Races in global memory: between warps of one block, and between blocks.

Blocks of one grid are unordered but for what atomics order (PTX ISA, section "Memory Consistency Model").  A strong
operation (atom, red, and ld or st with .relaxed, .acquire, .release or .volatile) releases at its address what its warp
knows if it has release semantics, or what lies before the warp's last memory fence if it is relaxed; barriers carry
fences from warp to warp.  Any strong read of that address acquires it, for the whole block: codes that leave out the
second fence are common and work.

One pattern is let through inside a block: a byte that several warps read by one instruction and one of them writes.
Compilers load a small tensor into every warp and let one store the result.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lisa_kernels.testing.ptx.clocks import Clocks, Knowledge, agent_of, tick_of
from lisa_kernels.testing.ptx.races import AccessHistory


class BlockOrder:
    """What each block has acquired of other blocks, and what was released at each address."""

    def __init__(self) -> None:
        # Ordinal of a block -> what is known of its agents.
        self._known: dict[int, dict[int, Knowledge]] = {}
        self._released: dict[int, dict[int, Knowledge]] = {}

    def synchronise(
        self, addresses: Iterable[int], warp: int, clocks: Clocks, *, releases: bool, acquires: bool, fences: bool
    ) -> None:
        """A strong operation by one warp.

        Args:
            releases: It writes.
            acquires: It reads.
            fences: It has release semantics of its own, without a fence before it.
        """
        agent = np.array([warp])
        block = clocks.block_ordinal
        knowledge = None
        if releases:
            knowledge = clocks.snapshot(agent)
            if not fences:
                knowledge.seen = knowledge.fenced
                # Before any fence a relaxed write releases nothing.
                if knowledge.seen.max() < clocks.start:
                    knowledge = None
        for address in addresses:
            if acquires and address in self._released:
                self._acquire(clocks, agent, self._released[address])
            if knowledge is not None:
                released = self._released.setdefault(address, {})
                for other, known in [*self._known.get(block, {}).items(), (block, knowledge)]:
                    released[other] = known.merged(released[other]) if other in released else known
        if knowledge is not None and fences:
            clocks.advance(agent)

    def _acquire(self, clocks: Clocks, agent: np.ndarray, released: dict[int, Knowledge]) -> None:
        known = self._known.setdefault(clocks.block_ordinal, {})
        for other, knowledge in released.items():
            if other == clocks.block_ordinal:
                clocks.join(agent, knowledge)
            else:
                known[other] = knowledge.merged(known[other]) if other in known else knowledge

    def knows(self, block: int, others: np.ndarray, agents: np.ndarray, ticks: np.ndarray) -> np.ndarray:
        """Whether ``block`` is ordered after accesses of other blocks."""
        known = self._known.get(block, {})
        result = np.zeros(others.shape, bool)
        for other in np.unique(others):
            if other in known:
                chosen = others == other
                result[chosen] = known[other].seen[agents[chosen]] >= ticks[chosen]
        return result


class GlobalHistory(AccessHistory):
    """The history of a buffer in global memory, which also remembers the last two blocks that read each byte."""

    def __init__(self, size: int, agents: int, order: BlockOrder) -> None:
        super().__init__(size, agents)
        self.order = order
        # Two reads, as stamps, by different blocks: whoever writes, one of them is not the writer's.
        self.block_reads = np.zeros((2, size), np.int32)
        # By which instruction each warp read a byte last.
        self.sites = np.zeros((agents, size), np.int32)
        # Bytes whose plain reads do not race with atomics, and bytes that hold nothing before they are written.
        self.exempt = np.zeros(0, bool)
        self.blank = np.zeros(0, bool)

    def mark_exempt(self, start: int, size: int) -> None:
        self.exempt = _marked(self.exempt, self.writes.shape, start, size)

    def mark_blank(self, start: int, size: int) -> None:
        self.blank = _marked(self.blank, self.writes.shape, start, size)

    def unwritten(self, rows: np.ndarray, width: int) -> np.ndarray | None:
        if not len(self.blank):
            return None
        unwritten = super().unwritten(rows, width)
        if unwritten is None:
            return None
        unwritten = unwritten & self.blank.reshape(-1, width)[rows]
        return unwritten if unwritten.any() else None

    def read(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool
    ) -> np.ndarray | None:
        conflict = super().read(rows, width, agents, clocks, atomic=atomic)
        if not atomic:
            self.sites.reshape(self.agents, -1, width)[agents, rows] = clocks.site
            newest, older = self.block_reads.reshape(2, -1, width)
            previous = newest[rows]
            foreign = self._foreign(previous, clocks)
            if foreign.any():
                older[rows] = np.where(foreign, previous, older[rows])
            newest[rows] = clocks.stamps(agents)[:, None]
        if conflict is not None and len(self.exempt):
            conflict = conflict & ~(self.exempt & self.atomic).reshape(-1, width)[rows]
        return conflict if conflict is not None and conflict.any() else None

    def write_conflict(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool
    ) -> np.ndarray | None:
        stamps = self.writes.reshape(-1, width)[rows]
        if not stamps.any():
            return None
        foreign = self._foreign(stamps, clocks)
        conflict = (stamps != 0) & ~foreign & ~clocks.knows(agents[:, None], stamps)
        if foreign.any():
            conflict |= self._unordered(stamps, foreign, clocks)
        if atomic:
            conflict &= ~self.atomic.reshape(-1, width)[rows]
        return conflict if conflict.any() else None

    def read_conflict(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool
    ) -> np.ndarray | None:
        conflict = np.zeros((len(rows), width), bool)
        if self.last_read.reshape(-1, width)[rows].max(initial=0) > clocks.floor:
            ticks = self.reads.reshape(self.agents, -1, width)[:, rows]
            mine = clocks.ticks.owner[ticks] == clocks.block_ordinal
            others = np.arange(self.agents)[:, None] != agents
            late = mine & (ticks > clocks.seen[agents, : self.agents].T[:, :, None]) & others[:, :, None]
            if late.any():
                sites = self.sites.reshape(self.agents, -1, width)[:, rows]
                late &= sites != sites[agents, np.arange(len(rows))]
                conflict |= late.any(0)
        for stamps in self.block_reads.reshape(2, -1, width)[:, rows]:
            foreign = self._foreign(stamps, clocks)
            if foreign.any():
                conflict |= self._unordered(stamps, foreign, clocks)
        if atomic and len(self.exempt):
            conflict &= ~self.exempt.reshape(-1, width)[rows]
        return conflict if conflict.any() else None

    def _foreign(self, stamps: np.ndarray, clocks: Clocks) -> np.ndarray:
        """Stamps of other blocks."""
        return (stamps != 0) & (clocks.ticks.owner[tick_of(stamps)] != clocks.block_ordinal)

    def _unordered(self, stamps: np.ndarray, foreign: np.ndarray, clocks: Clocks) -> np.ndarray:
        others = clocks.ticks.owner[tick_of(stamps)]
        known = self.order.knows(clocks.block_ordinal, others, agent_of(stamps), tick_of(stamps))
        return foreign & ~known


def _marked(marks: np.ndarray, shape: tuple[int, ...], start: int, size: int) -> np.ndarray:
    marks = marks if len(marks) else np.zeros(shape, bool)
    marks[start : start + size] = True
    return marks
