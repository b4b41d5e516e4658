"""Judges one access after another against the shadow memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from lisa_kernels.testing.interpreter.location import kernel_line, lanes_in_words
from lisa_kernels.testing.sanitizer import faults
from lisa_kernels.testing.sanitizer.faults import Fault, FaultLog
from lisa_kernels.testing.sanitizer.memory import Memory, Shadow
from lisa_kernels.testing.sanitizer.traffic import SECTOR, Traffic

LOAD, STORE, ATOMIC = "load", "store", "atomic"


@dataclasses.dataclass(frozen=True)
class Access:
    """One load, store or atomic of one program.

    Attributes:
        kind: ``LOAD``, ``STORE`` or ``ATOMIC``.
        pointers: Addresses, uint64, of the block's shape.
        mask: Lanes that are on, same shape.
        size: Bytes of an element.
    """

    kind: str
    pointers: np.ndarray
    mask: np.ndarray
    size: int


class Checker:
    """Keeps the shadow memory, the faults and the traffic of the launches in a block.

    Args:
        exempt: Names of tensors that the checks between programs leave out; more may be added later.
    """

    def __init__(self, memory: Memory, log: FaultLog, traffic: Traffic, exempt: Collection[str]) -> None:
        self._memory, self._log, self._traffic, self._exempt = memory, log, traffic, exempt
        self._kernel, self._grid = "", (0, 0, 0)
        self._launch = 0
        # Serial numbers of programs: of a launch's first, the next launch's first, and the one that runs.
        self._first = self._next = 1
        self._serial = 0
        self._working_set = 0

    def begin_launch(self, kernel: str) -> None:
        self._kernel = kernel
        self._launch += 1

    def begin_grid(self, grid: tuple[int, int, int]) -> None:
        self._grid = grid
        self._first, self._next = self._next, self._next + grid[0] * grid[1] * grid[2]

    def begin_program(self, program: tuple[int, int, int]) -> None:
        self.end_program()
        x, y, z = program
        self._serial = self._first + (x * self._grid[1] + y) * self._grid[2] + z
        self._traffic.programs += 1

    def end_program(self) -> None:
        self._traffic.largest_working_set = max(self._traffic.largest_working_set, self._working_set)
        self._traffic.working_sets += self._working_set
        self._working_set = 0

    def check(self, access: Access) -> np.ndarray:
        """Note an access and return the lanes that may go ahead: those that are on and inside a tensor."""
        everything = access.mask.all()
        on = access.pointers.reshape(-1) if everything else access.pointers[access.mask]
        self._traffic.lanes += access.pointers.size
        self._traffic.lanes_on += on.size
        if not on.size:
            return access.mask
        shadow = self._memory.at(int(on.min()))
        if shadow is not None and int(on.max()) + access.size <= shadow.end and self._touch(shadow, on, access):
            return access.mask
        return self._check_by_lane(access)

    def report_assertion(self, message: str, failed: np.ndarray) -> None:
        """Add a fault for a ``tl.device_assert``; ``failed`` has the shape of its condition."""
        self._log.add(
            Fault(
                faults.ASSERTION, "", f"{message!r} fails", self._kernel, self._program(self._serial),
                lanes=lanes_in_words(failed), line=kernel_line(), elements=int(failed.sum()),
            ),
            self._serial,
        )  # fmt: skip

    def _check_by_lane(self, access: Access) -> np.ndarray:
        """The slow way: lanes in several storages, or outside of all."""
        inside = np.zeros(access.mask.shape, dtype=bool)
        groups: dict[int, Shadow] = {}
        for lane in map(tuple, np.argwhere(access.mask)):
            address = int(access.pointers[lane])
            shadow = self._memory.at(address)
            if shadow is None or address + access.size > shadow.end:
                continue
            cells, _ = shadow.cells(np.array([address - shadow.start]), access.size)
            if shadow.legal(cells):
                inside[lane] = True
                groups[shadow.start] = shadow
        outside = access.mask & ~inside
        if outside.any():
            self._report_outside(access, outside)
        for shadow in groups.values():
            mine = inside & (access.pointers >= np.uint64(shadow.start)) & (access.pointers < np.uint64(shadow.end))
            self._touch(shadow, access.pointers[mine], access)
        return inside

    def _touch(self, shadow: Shadow, addresses: np.ndarray, access: Access) -> bool:
        """Note an access to one storage; False, with nothing noted, where a lane is outside the launch's tensors."""
        offsets = (addresses - np.uint64(shadow.start)).view(np.int64)
        cells, duplicates = shadow.cells(offsets, access.size)
        if not shadow.legal(cells):
            return False
        self._count(shadow, cells, access.kind)
        if duplicates and access.kind == STORE:
            self._report_duplicates(shadow, addresses, access)
        if access.kind != STORE and shadow.written is not None:
            held = shadow.written[cells]
            if not held.all():
                self._report(faults.UNINITIALISED, shadow, cells, ~held, access)
        if access.kind == LOAD:
            self._note_read(shadow, cells, access)
        else:
            self._note_write(shadow, cells, access)
        return True

    def _note_read(self, shadow: Shadow, cells: np.ndarray | slice, access: Access) -> None:
        if shadow.last_write == self._launch:
            writer = shadow.writer[cells]
            foreign = (writer >= self._first) & (writer != self._serial) & ~shadow.atomic[cells]
            if foreign.any():
                self._report(faults.READ_OF_WRITE, shadow, cells, foreign, access, others=writer)
        reader = shadow.reader[cells]
        several = ((reader >= self._first) & (reader != self._serial)) | (reader == -self._launch)
        shadow.reader[cells] = np.where(several, -self._launch, self._serial) if several.any() else self._serial

    def _note_write(self, shadow: Shadow, cells: np.ndarray | slice, access: Access) -> None:
        atomic = access.kind == ATOMIC
        writer = shadow.writer[cells]
        foreign = (writer >= self._first) & (writer != self._serial)
        if foreign.any():
            if atomic:
                foreign &= ~shadow.atomic[cells]
            if foreign.any():
                self._report(faults.TWO_WRITERS, shadow, cells, foreign, access, others=writer)
        if not atomic:
            reader = shadow.reader[cells]
            several = reader == -self._launch
            foreign = ((reader >= self._first) & (reader != self._serial)) | several
            if foreign.any():
                others = np.where(several, 0, reader)
                self._report(faults.WRITE_OF_READ, shadow, cells, foreign, access, others=others)
        # A plain write stays one until the launch ends, whatever is added to it.
        shadow.atomic[cells] = atomic & ((writer < self._first) | shadow.atomic[cells])
        shadow.writer[cells] = self._serial
        shadow.last_write = self._launch
        if shadow.written is not None:
            shadow.written[cells] = True

    def _count(self, shadow: Shadow, cells: np.ndarray | slice, kind: str) -> None:
        touched = shadow.touched[cells]
        self._working_set += int(np.count_nonzero(touched != self._serial)) * shadow.unit
        shadow.touched[cells] = self._serial
        if shadow.owner is None:
            self._count_tensor(shadow, 0, cells, kind)
            return
        owner = shadow.owner[cells]
        indices = np.arange(cells.start, cells.stop) if isinstance(cells, slice) else cells
        for index in np.flatnonzero(np.bincount(owner)):
            self._count_tensor(shadow, index, indices[owner == index], kind)

    def _count_tensor(self, shadow: Shadow, index: int, cells: np.ndarray | slice, kind: str) -> None:
        count = self._traffic.of(shadow.views[index].name)
        size = (cells.stop - cells.start if isinstance(cells, slice) else cells.size) * shadow.unit
        if kind == STORE:
            count.stored += size
        elif kind == ATOMIC:
            count.atomic += size
        else:
            count.loaded += size
            count.sectors += shadow.sectors(cells) * SECTOR

    def _report_outside(self, access: Access, outside: np.ndarray) -> None:
        address = int(access.pointers[outside][0])
        view = self._memory.nearest(address)
        name, where = (view.name, view.place(address)) if view else ("", f"address {address:#x}, with no tensor at all")
        self._log.add(
            Fault(
                faults.OUT_OF_BOUNDS, name, f"{access.kind} {where}", self._kernel, self._program(self._serial),
                lanes=lanes_in_words(outside), line=kernel_line(), elements=int(outside.sum()),
            ),
            self._serial,
        )  # fmt: skip

    def _report_duplicates(self, shadow: Shadow, addresses: np.ndarray, access: Access) -> None:
        distinct, counts = np.unique(addresses, return_counts=True)
        doubled = distinct[counts > 1]
        cells = (doubled - np.uint64(shadow.start)).view(np.int64) // shadow.unit
        self._report(faults.DUPLICATE_LANES, shadow, cells, np.ones(cells.size, dtype=bool), access)

    def _report(
        self,
        kind: str,
        shadow: Shadow,
        cells: np.ndarray | slice,
        bad: np.ndarray,
        access: Access,
        *,
        others: np.ndarray | None = None,
    ) -> None:
        """Add a fault for each tensor that the bad ones among the cells belong to."""
        indices = (np.arange(cells.start, cells.stop) if isinstance(cells, slice) else cells)[bad]
        owners = np.zeros(indices.size, dtype=int) if shadow.owner is None else shadow.owner[indices]
        for index in np.unique(owners):
            view, mine = shadow.views[index], indices[owners == index]
            if others is not None and view.name in self._exempt:
                continue
            low = (access.pointers.astype(np.int64) - shadow.start) // shadow.unit
            hit = access.mask & np.isin(low, mine - mine % max(1, access.size // shadow.unit))
            other = None if others is None else int(others[bad][owners == index][0])
            self._log.add(
                Fault(
                    kind, view.name, f"{access.kind} of {view.place(shadow.address(mine[0]))}", self._kernel,
                    self._program(self._serial), other=self._program(other) if other else None,
                    lanes=lanes_in_words(hit) if hit.any() else "", line=kernel_line(),
                    elements=max(1, mine.size * shadow.unit // view.dtype.itemsize),
                ),
                self._serial,
            )  # fmt: skip

    def _program(self, serial: int) -> tuple[int, int, int]:
        x, rest = divmod(serial - self._first, self._grid[1] * self._grid[2])
        return (x, *divmod(rest, self._grid[2]))
