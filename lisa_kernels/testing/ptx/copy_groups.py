"""Groups of cp.async: a copy takes effect as late as possible, when its thread waits for it (PTX ISA, section
"Data Movement and Conversion Instructions: Asynchronous copy").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.shared import COPY_UNDER_WAY

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block


@dataclasses.dataclass
class _Copy:
    """One cp.async: ``source_sizes`` bytes of ``width`` are read, the rest is zero; ``groups`` are per lane."""

    lanes: np.ndarray
    destinations: np.ndarray
    sources: np.ndarray
    source_sizes: np.ndarray
    width: int
    groups: np.ndarray
    serial: int

    def split(self, chosen: np.ndarray) -> _Copy:
        return _Copy(
            self.lanes[chosen], self.destinations[chosen], self.sources[chosen], self.source_sizes[chosen],
            self.width, self.groups[chosen], self.serial,
        )  # fmt: skip


class CopyGroups:
    """The cp.async groups of every thread of a block."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._pending: list[_Copy] = []
        self._committed = np.zeros(block.count, np.int64)
        # Copies issued so far.
        self.serial = 0

    def start(self, destinations: np.ndarray, sources: np.ndarray, source_sizes: np.ndarray, width: int) -> None:
        """Issue one copy for each active lane."""
        block, lanes = self.block, self.block.lanes
        for size in np.unique(source_sizes):
            chosen = source_sizes == size
            if size == width:
                block.memory.note("global", sources[chosen], width, lanes[chosen], writes=False)
            elif size:
                block.launch.global_memory.find(sources[chosen], int(size), lanes[chosen])
        block.memory.note("shared", destinations, width, lanes, writes=True)
        block.shared.mark(destinations[:, None] + np.arange(width), COPY_UNDER_WAY)
        groups = self._committed[lanes]
        self._pending.append(_Copy(lanes, destinations, sources, source_sizes, width, groups, self.serial))
        self.serial += 1

    def commit(self) -> None:
        """Close the group of the active lanes."""
        self._committed = self._committed + self.block.active

    def wait(self, allowed: int | None) -> None:
        """Finish all but the newest ``allowed`` groups of the active lanes; None finishes all, committed or not."""

        def is_done(copy: _Copy) -> np.ndarray:
            done = self.block.active[copy.lanes]
            return done if allowed is None else done & (copy.groups < self._committed[copy.lanes] - allowed)

        self._finish_those(is_done, None)

    def finish(self, lanes: np.ndarray, serial: int, stamp: np.ndarray) -> None:
        """Finish the copies of some lanes before a serial number; ``stamp`` says who made them."""
        self._finish_those(lambda copy: np.isin(copy.lanes, lanes) & (copy.serial < serial), stamp)

    def _finish_those(self, is_done: Callable[[_Copy], np.ndarray], stamp: np.ndarray | None) -> None:
        still_pending = []
        for copy in self._pending:
            done = is_done(copy)
            if done.any():
                self._finish(copy.split(done), stamp)
            if not done.all():
                still_pending.append(copy.split(~done))
        if len(still_pending) < len(self._pending) or not still_pending:
            self.block.shared.settle()
        self._pending = still_pending

    def _finish(self, copy: _Copy, stamp: np.ndarray | None) -> None:
        block, shared = self.block, self.block.shared
        data = np.zeros((len(copy.lanes), copy.width), np.uint8)
        for size in np.unique(copy.source_sizes[copy.source_sizes > 0]):
            chosen = np.nonzero(copy.source_sizes == size)[0]
            data[chosen, :size] = block.launch.global_memory.read(copy.sources[chosen], int(size))
        rows = copy.destinations // copy.width
        shared.bytes.reshape(-1, copy.width)[rows] = data
        shared.under_way.reshape(-1, copy.width)[rows] = 0
        if shared.history is not None:
            stamps = block.clocks.stamps(block.warps[copy.lanes]) if stamp is None else stamp
            shared.history.writes.reshape(-1, copy.width)[rows] = stamps[:, None]
