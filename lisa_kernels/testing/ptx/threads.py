"""Program counters: which threads run next, and which wait (PTX ISA, section "SIMT Architecture").

Threads at the same instruction form a front.  The front with the lowest program counter runs, so threads that parted
meet again where their paths join.  With a seed, warps run one after another instead: each until it waits or ends, in a
new random order every round.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.faults import PtxError

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block

# Steps after which another front or warp gets its turn: threads that spin must not starve those they wait for.
_TURN = 20_000
_IDLE_ROUNDS = 64


@dataclasses.dataclass
class _Unit:
    """Threads that run together: the block, or one warp."""

    mask: np.ndarray
    fronts: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)


class Threads:
    """Who of the block runs, waits or has ended."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.exited = np.zeros(block.count, bool)
        # Lanes of *.sync instructions whose partners have not come yet, and what to say if they never do.
        self.parked: dict[int, tuple[np.ndarray, PtxError]] = {}
        self._deferred: list[tuple[int, np.ndarray]] = []
        self._idle_rounds = 0
        self.changes = 0
        schedule = block.launch.options.schedule
        if schedule == "lockstep":
            self._random = None
            self._units = [_Unit(block.everyone)]
        else:
            self._random = np.random.default_rng([schedule, block.ordinal])
            self._units = [_Unit(block.warps == warp) for warp in block.launch.all_warps]
        self._queue: list[_Unit] = []
        self._steps_of_turn = 0
        self._turn = 0
        # Places to return to, by depth of calls and lane.
        self._depth = np.zeros(block.count, np.int64)
        self._return_to = np.zeros((2, block.count), np.int64)
        self.pc = 0
        # Of the current instruction: lanes that do not go on to the next one, and lanes that joined.
        self.moved: np.ndarray | None = None
        self.absorbed: np.ndarray | None = None
        self.enqueue(0, block.everyone)

    def next(self) -> tuple[int, np.ndarray] | None:
        """Return program counter and threads of the front that runs next; None if no thread can run."""
        while True:
            unit = self._current_unit()
            if unit is None:
                if not self._wake_deferred():
                    return None
                continue
            self._steps_of_turn += 1
            fronts = unit.fronts
            if len(fronts) == 1:
                return fronts.popitem()
            pc = min(fronts) if self._turn == 0 else sorted(fronts)[self._turn % len(fronts)]
            return pc, fronts.pop(pc)

    def _current_unit(self) -> _Unit | None:
        if self._steps_of_turn > _TURN:
            self._steps_of_turn = 0
            self._turn += 1
            if self._queue:
                self._queue.append(self._queue.pop(0))
        while self._queue and not self._queue[0].fronts:
            self._queue.pop(0)
            self._steps_of_turn = self._turn = 0
        if not self._queue:
            self._queue = [unit for unit in self._units if unit.fronts]
            if self._random is not None and self._queue and self._deferred:
                self._wake()
                self._queue = [unit for unit in self._units if unit.fronts]
            if self._random is not None:
                self._random.shuffle(self._queue)
        return self._queue[0] if self._queue else None

    def _wake_deferred(self) -> bool:
        if not self._deferred or self._idle_rounds == _IDLE_ROUNDS:
            return False
        self._idle_rounds += 1
        self._wake()
        return True

    def _wake(self) -> None:
        deferred, self._deferred = self._deferred, []
        for pc, mask in deferred:
            self.enqueue(pc, mask)

    def enqueue(self, pc: int, mask: np.ndarray) -> None:
        """Let threads go on at an instruction."""
        if len(self._units) == 1:
            units = ((self._units[0], mask),)
        else:
            units = [(unit, unit.mask & mask) for unit in self._units]
        for unit, part in units:
            if len(units) > 1 and not part.any():
                continue
            waiting = unit.fronts.get(pc)
            if waiting is not None:
                part = waiting | part
                if part.all():
                    part = self.block.everyone
            unit.fronts[pc] = part

    def progress(self, *, changes_state: bool = True) -> None:
        """Say that something happened that deferred threads may wait for.

        Args:
            changes_state: False for what a loop that waits may do in every round, such as a barrier.
        """
        self._idle_rounds = 0
        self.changes += changes_state

    @property
    def alone(self) -> bool:
        """Whether no thread can run beside those that run now, and these are in no function."""
        return not self._deferred and not self._depth.any() and not any(unit.fronts for unit in self._units)

    # For instructions: what becomes of the active lanes instead of going on to the next instruction.

    def _take(self, mask: np.ndarray) -> None:
        self.moved = mask if self.moved is None else self.moved | mask

    def branch(self, target: int) -> None:
        """Send the active lanes elsewhere."""
        self._take(self.block.active)
        self.enqueue(target, self.block.active)

    def call(self, target: int) -> None:
        """Send the active lanes into a function; they come back to the next instruction."""
        lanes = self.block.lanes
        self._depth[lanes] += 1
        if self._depth.max() >= len(self._return_to):
            self._return_to = np.concatenate([self._return_to, np.zeros_like(self._return_to)])
        self._return_to[self._depth[lanes], lanes] = self.pc + 1
        self.branch(target)

    def returns(self, lanes: np.ndarray) -> list[tuple[np.ndarray, int | None]]:
        """Leave the current function; return groups of lanes with where they go on, None for the end of the kernel."""
        places = np.where(self._depth[lanes] > 0, self._return_to[self._depth[lanes], lanes], -1)
        self._depth[lanes] = np.maximum(self._depth[lanes] - 1, 0)
        return [(lanes[places == place], int(place) if place >= 0 else None) for place in np.unique(places)]

    def suspend(self, mask: np.ndarray) -> None:
        """Take lanes away; whoever keeps them enqueues them again."""
        self._take(mask)

    def defer(self, mask: np.ndarray) -> None:
        """Let lanes go on after all others have run as far as they can: for waits that failed and will be repeated."""
        self._take(mask)
        self._deferred.append((self.pc + 1, mask))

    def exit(self, mask: np.ndarray) -> None:
        """End threads."""
        self._take(mask)
        self.exited = self.exited | mask
        self.progress()
        # Who waited for these threads alone goes on: it looks again who is missing.
        parked, self.parked = self.parked, {}
        for pc, (waiting, _) in parked.items():
            self.enqueue(pc, waiting)
        self.block.barriers.thread_exited()

    def park(self, mask: np.ndarray, fault: PtxError) -> None:
        """Hold lanes at a *.sync instruction until its other members come; raise ``fault`` if they never do."""
        self._take(mask)
        if self.pc in self.parked:
            mask = mask | self.parked[self.pc][0]
        self.parked[self.pc] = (mask, fault)

    def absorb_parked(self, wanted: np.ndarray) -> None:
        """Let those of ``wanted`` that are parked at the current instruction run it together with the active lanes."""
        if self.pc not in self.parked:
            return
        parked, fault = self.parked.pop(self.pc)
        mask = self.block.active | (parked & wanted)
        if (parked & ~wanted).any():
            self.parked[self.pc] = (parked & ~wanted, fault)
        self.absorbed = mask
        self.block.set_active(self.block.everyone if mask.all() else mask)
