"""Bulk copies between global and shared memory (PTX ISA, section "Data Movement and Conversion Instructions:
cp.async.bulk").

Copies to shared memory happen when a thread waits for the phase of the mbarrier that they complete.  Copies to global
memory take their data when they are issued, which is the same as later because the source may not be written until
``wait_group.read``; they happen at ``wait_group``, or at the end of the block.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.shared import BULK_COPY_UNDER_WAY, BULK_STORE_UNDER_WAY
from lisa_kernels.testing.ptx.values import STORAGE, decode, encode

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block
    from lisa_kernels.testing.ptx.buffers import GlobalMemory
    from lisa_kernels.testing.ptx.mbarriers import MBarrier
    from lisa_kernels.testing.ptx.module import Instruction

# Bulk copies move multiples of this many bytes.
GRAIN = 16


@dataclasses.dataclass(frozen=True)
class Box:
    """What one bulk copy moves: lines of equal length, each with at most one piece that lies in the tensor.

    Attributes:
        shared: ``[size / 16]`` offsets in shared memory of each 16 bytes of the lines.
        line_bytes: Bytes of a line.
        starts: ``[pieces]`` global address of each piece; ``lines`` says in which line it lies.
        first: Where in its line each piece starts; ``length`` is its size in bytes.
        fill: Element that takes the place of what lies outside; empty for zeros.
    """

    shared: np.ndarray
    line_bytes: int
    starts: np.ndarray
    lines: np.ndarray
    first: int
    length: int
    fill: np.ndarray

    @classmethod
    def of_line(cls, offset: int, address: int, size: int) -> Box:
        """Bytes in a row."""
        nothing = np.zeros(0, np.uint8)
        return cls(
            np.arange(offset, offset + size, GRAIN), size, np.array([address]), np.zeros(1, int), 0, size, nothing
        )

    @property
    def size(self) -> int:
        """Bytes in shared memory."""
        return GRAIN * len(self.shared)

    def global_rows(self) -> tuple[np.ndarray, int]:
        """Addresses of the pieces as aligned rows, and the rows' width."""
        if not len(self.starts) or not self.length:
            return np.zeros(0, np.int64), GRAIN
        together = int(np.bitwise_or.reduce(self.starts)) | self.length | GRAIN
        width = together & -together
        return (self.starts[:, None] + np.arange(0, self.length, width)).reshape(-1), width

    def gather(self, memory: GlobalMemory) -> np.ndarray:
        """Bytes of the box from global memory."""
        rows, width = self.global_rows()
        data = np.zeros(self.size, np.uint8)
        if len(self.fill):
            data.reshape(-1, len(self.fill))[:] = self.fill
        if len(rows):
            pieces = memory.read(rows, width).reshape(len(self.starts), self.length)
            data.reshape(-1, self.line_bytes)[self.lines, self.first : self.first + self.length] = pieces
        return data

    def pieces_of(self, data: np.ndarray) -> np.ndarray:
        """Those bytes of the box that lie in the tensor, as rows of ``global_rows``."""
        inside = data.reshape(-1, self.line_bytes)[self.lines, self.first : self.first + self.length]
        return np.ascontiguousarray(inside).reshape(-1, self.global_rows()[1])


@dataclasses.dataclass(eq=False)
class BulkLoad:
    """One copy to shared memory."""

    box: Box
    lane: int
    instruction: Instruction

    def land(self, block: Block, stamp: np.ndarray) -> None:
        """Let the copy happen."""
        rows, shared = self.box.shared // GRAIN, block.shared
        shared.bytes.reshape(-1, GRAIN)[rows] = self.box.gather(block.launch.global_memory).reshape(-1, GRAIN)
        shared.under_way.reshape(-1, GRAIN)[rows] = 0
        if shared.history is not None:
            shared.history.writes.reshape(-1, GRAIN)[rows] = stamp


@dataclasses.dataclass(eq=False)
class BulkStore:
    """One copy or reduction to global memory; ``reduction`` is its operation and type, both empty for a copy."""

    box: Box
    lane: int
    instruction: Instruction
    data: np.ndarray
    group: int
    reduction: tuple[str, str]
    tick: int
    read: bool = False


class BulkCopies:
    """The bulk copies of one block."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._stores: list[BulkStore] = []
        self._committed = np.zeros(block.count, np.int64)

    def load(self, box: Box, barrier: MBarrier, lane: int, instruction: Instruction) -> None:
        """Issue a copy to shared memory for one thread."""
        memory = self.block.memory
        rows, width = box.global_rows()
        memory.note("global", rows, width, np.full(len(rows), lane), writes=False)
        memory.check_async(box.shared, GRAIN, lane, writes=True)
        self.block.shared.mark(_bytes_of(box), BULK_COPY_UNDER_WAY)
        barrier.loads.append(BulkLoad(box, lane, instruction))
        self.block.threads.progress()

    def store(self, box: Box, lane: int, instruction: Instruction, *, reduction: tuple[str, str] = ("", "")) -> None:
        """Issue a copy or reduction to global memory for one thread."""
        block = self.block
        block.memory.check_async(box.shared, GRAIN, lane, writes=False)
        data = block.shared.bytes.reshape(-1, GRAIN)[box.shared // GRAIN].reshape(-1)
        rows, width = box.global_rows()
        lanes = np.full(len(rows), lane)
        if len(rows):
            block.launch.global_memory.find(rows, width, lanes)
        if reduction[0]:
            block.memory.note_atomic("global", rows, width, lanes)
        else:
            # Roles of a warp-specialised kernel may store one box with the same values.
            changed = box.pieces_of(data) != self._stored(rows, width)
            block.memory.note("global", rows, width, lanes, writes=True, changed=changed)
        engine = block.clocks.engine(int(block.warps[lane]) - len(block.launch.all_warps))
        tick = int(block.clocks.engine_tick(engine, held=True).seen[engine])
        # Until it is waited for, the copy is not even ordered before what its own thread does.
        block.launch.global_memory.stamp(rows, width, block.clocks.stamps(np.array([engine])))
        store = BulkStore(box, lane, instruction, data, int(self._committed[lane]), reduction, tick)
        self._stores.append(store)
        block.shared.mark(_bytes_of(box), BULK_STORE_UNDER_WAY)

    def _stored(self, rows: np.ndarray, width: int) -> np.ndarray:
        """What rows of global memory hold when all copies that are under way have happened."""
        data = self.block.launch.global_memory.read(rows, width)
        for store in self._stores:
            earlier, same_width = store.box.global_rows()
            if same_width == width and not store.reduction[0]:
                _, places, sources = np.intersect1d(rows, earlier, return_indices=True)
                data[places] = store.box.pieces_of(store.data)[sources]
        return data

    def commit(self) -> None:
        """``cp.async.bulk.commit_group``."""
        self._committed = self._committed + self.block.active

    def wait(self, allowed: int, *, read: bool) -> None:
        """``cp.async.bulk.wait_group``: finish all but the newest groups of the active threads.

        Args:
            read: Only until the sources have been read.
        """
        done = []
        for store in self._stores:
            if self.block.active[store.lane] and store.group < self._committed[store.lane] - allowed:
                self._finish_reading(store)
                if not read:
                    self._land(store)
                    done.append(store)
        self._stores = [store for store in self._stores if store not in done]
        for store in self._stores:
            if not store.read:
                self.block.shared.mark(_bytes_of(store.box), BULK_STORE_UNDER_WAY)
        self.block.shared.settle()

    def end(self) -> None:
        """The block ends: nothing may be under way in its shared memory.

        Raises:
            PtxError: Of kind ``unfinished bulk copy``.
        """
        left = self.block.mbarriers.loads_under_way() + [store for store in self._stores if not store.read]
        if left:
            detail = "the block ends while this copy from or to its shared memory is under way"
            instruction = left[0].instruction
            raise PtxError(
                "unfinished bulk copy", detail, instruction.text, instruction.source, threads=(left[0].lane,)
            )
        for store in self._stores:
            self._land(store)
        self._stores = []

    def _finish_reading(self, store: BulkStore) -> None:
        block, places = self.block, _bytes_of(store.box)
        store.read = True
        block.shared.under_way[places] = 0
        history, warp = block.shared.history, block.warps[store.lane]
        if history is not None:
            history.reads[warp, places] = history.last_read[places] = block.clocks.now[warp]

    def _land(self, store: BulkStore) -> None:
        block, memory = self.block, self.block.launch.global_memory
        rows, width = store.box.global_rows()
        data = store.box.pieces_of(store.data)
        operation, type_name = store.reduction
        if operation and len(rows):
            data = _reduce(operation, type_name, memory.read(rows, width), data)
        memory.write(rows, data)
        warp = block.warps[store.lane]
        engine = block.clocks.engine(int(warp) - len(block.launch.all_warps))
        known = block.clocks.snapshot(np.array([warp]))
        known.seen[engine] = max(known.seen[engine], store.tick)
        block.clocks.join(np.array([warp]), known)
        block.clocks.release(store.tick)


def _bytes_of(box: Box) -> np.ndarray:
    return (box.shared[:, None] + np.arange(GRAIN)).reshape(-1)


_REDUCTIONS = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}  # fmt: skip


def _reduce(operation: str, type_name: str, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Rows of bytes combined element by element, rounded once to the type."""
    storage = STORAGE[type_name]
    first, second = (np.ascontiguousarray(rows).view(storage) for rows in (old, new))
    combine = _REDUCTIONS[operation]
    if type_name in ("f16", "bf16"):
        result = encode(combine(decode(first, type_name), decode(second, type_name)), type_name)
    else:
        result = combine(first, second)
    return np.ascontiguousarray(result).view(np.uint8)
