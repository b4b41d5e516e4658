"""What each warp knows to have happened: vector clocks (PTX ISA, section "Memory Consistency Model", causality order).

Time is counted in ticks that are handed out once in a launch, so a tick also names its block.  A warp takes a new tick
when it synchronises.  An access is stamped with its warp and that warp's tick; another warp is ordered after it if it
has seen that tick, through barriers or atomics.  Agents beyond the warps stand for what engines do behind the warps'
backs, bulk copies above all: their ticks are known to those who waited.
"""

from __future__ import annotations

import dataclasses

import numpy as np

AGENT_BITS = 6
_AGENT_MASK = (1 << AGENT_BITS) - 1
# Of a block: more of them tell more asynchronous operations apart; with 32 warps they fit AGENT_BITS.
ENGINES = 24


def stamp_of(ticks: np.ndarray, agents: np.ndarray) -> np.ndarray:
    """One int32 for a tick and an agent; 0 is never a stamp, as ticks start at 1."""
    return (ticks << AGENT_BITS) | agents


def tick_of(stamps: np.ndarray) -> np.ndarray:
    return stamps >> AGENT_BITS


def agent_of(stamps: np.ndarray) -> np.ndarray:
    return stamps & _AGENT_MASK


class Ticks:
    """The launch's counter; ``owner[tick]`` is the ordinal of the block that took it."""

    def __init__(self) -> None:
        self.last = 0
        self.owner = np.full(1024, -1, np.int32)

    def take(self, block_ordinal: int) -> int:
        self.last += 1
        if self.last == len(self.owner):
            self.owner = np.concatenate([self.owner, np.full_like(self.owner, -1)])
        self.owner[self.last] = block_ordinal
        return self.last


@dataclasses.dataclass
class Knowledge:
    """The largest tick of each agent that is known: at all, past a proxy fence, and past a memory fence."""

    seen: np.ndarray
    proxied: np.ndarray
    fenced: np.ndarray

    def merged(self, other: Knowledge) -> Knowledge:
        return Knowledge(
            np.maximum(self.seen, other.seen),
            np.maximum(self.proxied, other.proxied),
            np.maximum(self.fenced, other.fenced),
        )


class Clocks:
    """The clocks of one block's agents; row i of each table is what agent i knows.

    Attributes:
        now: Tick of each agent; its accesses carry it.
        floor: Every warp has seen all ticks of all agents up to this one.
        site: Index of the instruction that runs.
    """

    def __init__(self, ticks: Ticks, block_ordinal: int, warps: int) -> None:
        agents = warps + ENGINES
        assert agents <= _AGENT_MASK
        self.ticks, self.block_ordinal, self.warps, self.agents = ticks, block_ordinal, warps, agents
        start = ticks.take(block_ordinal)
        self.now = np.full(agents, start, np.int32)
        self.seen = np.full((agents, agents), start - 1, np.int32)
        self.proxied = self.seen.copy()
        self.fenced = self.seen.copy()
        self.start = start
        self.floor = start - 1
        self.site = 0
        self._self = np.arange(agents)
        # Ticks of engines that no warp has waited for.
        self._held: list[int] = []

    def stamps(self, agents: np.ndarray) -> np.ndarray:
        return stamp_of(self.now, self._self)[agents]

    def knows(self, agents: np.ndarray, stamps: np.ndarray) -> np.ndarray:
        """Whether each agent is ordered after the accesses stamped, or made them itself."""
        others = agent_of(stamps)
        return (others == agents) | (self.seen[agents, others] >= tick_of(stamps))

    def knows_proxied(self, agents: np.ndarray, stamps: np.ndarray) -> np.ndarray:
        """Whether a ``fence.proxy.async`` stands between the accesses stamped and each agent."""
        return self.proxied[agents, agent_of(stamps)] >= tick_of(stamps)

    def snapshot(self, agents: np.ndarray) -> Knowledge:
        """What these agents know together, their own past included."""
        seen = self.seen[agents]
        seen[np.arange(len(agents)), agents] = self.now[agents]
        return Knowledge(seen.max(0), self.proxied[agents].max(0), self.fenced[agents].max(0))

    def join(self, agents: np.ndarray, knowledge: Knowledge) -> None:
        """Make these agents ordered after all that ``knowledge`` holds."""
        self.seen[agents] = np.maximum(self.seen[agents], knowledge.seen)
        self.proxied[agents] = np.maximum(self.proxied[agents], knowledge.proxied)
        self.fenced[agents] = np.maximum(self.fenced[agents], knowledge.fenced)
        others = self.seen[: self.warps, : self.warps].copy()
        np.fill_diagonal(others, self.now[: self.warps].max())
        self.floor = min(int(others.min()), min(self._held, default=self.ticks.last) - 1)

    def advance(self, agents: np.ndarray) -> None:
        """Begin a new tick: what follows is not covered by snapshots taken before."""
        self.now[agents] = self.ticks.take(self.block_ordinal)

    def engine(self, number: int) -> int:
        """Agent of an engine; numbers beyond ``ENGINES`` share one."""
        return self.warps + number % ENGINES

    def engine_tick(self, engine: int, *, held: bool = False) -> Knowledge:
        """Let an engine do something at a new tick; return what those know who wait for it.

        Args:
            held: Nobody waits yet: ``release`` says when somebody has.
        """
        self.advance(np.array([engine]))
        tick = int(self.now[engine])
        if held:
            self._held.append(tick)
        ticks = np.zeros(self.agents, np.int32)
        ticks[engine] = tick
        # What an engine writes needs no proxy fence before another engine's access.
        return Knowledge(ticks, ticks.copy(), np.zeros(self.agents, np.int32))

    def release(self, tick: int) -> None:
        """Somebody has waited for what was held."""
        self._held.remove(tick)

    def fence_proxy(self, agents: np.ndarray) -> None:
        """``fence.proxy.async``: all that these agents know may now be accessed through the async proxy."""
        self._mark(self.proxied, agents)

    def fence_memory(self, agents: np.ndarray) -> None:
        """``fence``, ``membar``: relaxed atomics that follow release all that these agents know."""
        self._mark(self.fenced, agents)

    def _mark(self, table: np.ndarray, agents: np.ndarray) -> None:
        table[agents] = self.seen[agents]
        table[agents, agents] = self.now[agents]
        self.advance(agents)
