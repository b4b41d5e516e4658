"""Who accessed which byte last, and whether that is ordered before an access now.

Two accesses of one byte race if one of them writes, they come from different warps, neither is ordered after the other
by barriers or atomics, and they are not both atomic.  Threads of one warp count as ordered among themselves, with one
exception: lanes of one store that leave different values in one word (``one_word``).  A store of the value that is
already there does not race with the store that put it there: layouts with copies in several warps do that.
"""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.clocks import AGENT_BITS, Clocks, agent_of


class AccessHistory:
    """The history of a range of bytes; accesses come as ``rows`` of ``width`` bytes: row r is bytes r*width and up.

    Each check returns a mask ``[accesses, width]`` of the bytes in conflict, or None.
    """

    def __init__(self, size: int, agents: int) -> None:
        self.agents = agents
        self.writes = np.zeros(size, np.int32)
        self.atomic = np.zeros(size, bool)
        self.last_read = np.zeros(size, np.int32)
        self.reads = np.zeros((agents, size), np.int32)

    def unwritten(self, rows: np.ndarray, width: int) -> np.ndarray | None:
        """Bytes that nobody has written."""
        unwritten = self.writes.reshape(-1, width)[rows] == 0
        return unwritten if unwritten.any() else None

    def read(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool
    ) -> np.ndarray | None:
        """Check a read against earlier writes, and note it."""
        conflict = self.write_conflict(rows, width, agents, clocks, atomic=atomic)
        if not atomic:
            now = clocks.now[agents][:, None]
            self.reads.reshape(self.agents, -1, width)[agents, rows] = now
            self.last_read.reshape(-1, width)[rows] = now
        return conflict

    def write(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool, changed: np.ndarray
    ) -> np.ndarray | None:
        """Check a write against earlier writes that it changes, and against earlier reads; note it."""
        conflict = self.write_conflict(rows, width, agents, clocks, atomic=atomic)
        if conflict is not None:
            conflict = conflict & changed
        read_conflict = self.read_conflict(rows, width, agents, clocks, atomic=atomic)
        if read_conflict is not None:
            conflict = read_conflict if conflict is None else conflict | read_conflict
        self.writes.reshape(-1, width)[rows] = clocks.stamps(agents)[:, None]
        self.atomic.reshape(-1, width)[rows] = atomic
        return conflict if conflict is not None and conflict.any() else None

    def write_conflict(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool
    ) -> np.ndarray | None:
        stamps = self.writes.reshape(-1, width)[rows]
        if not stamps.size or stamps.max() < (clocks.floor + 1) << AGENT_BITS:
            return None
        conflict = ~clocks.knows(agents[:, None], stamps) & (stamps != 0)
        if atomic:
            conflict &= ~self.atomic.reshape(-1, width)[rows]
        return conflict if conflict.any() else None

    def read_conflict(
        self, rows: np.ndarray, width: int, agents: np.ndarray, clocks: Clocks, *, atomic: bool
    ) -> np.ndarray | None:
        last = self.last_read.reshape(-1, width)[rows]
        if not last.size or last.max() <= clocks.floor:
            return None
        ticks = self.reads.reshape(self.agents, -1, width)[:, rows]
        others = np.arange(self.agents)[:, None] != agents
        conflict = ((ticks > clocks.seen[agents, : self.agents].T[:, :, None]) & others[:, :, None]).any(0)
        return conflict if conflict.any() else None

    def last_writer(self, row: int, width: int, byte: int) -> int:
        """The agent that wrote a byte last."""
        return int(agent_of(self.writes.reshape(-1, width)[row, byte]))
