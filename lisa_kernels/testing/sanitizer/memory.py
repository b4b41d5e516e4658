"""The tensors that kernels may touch, and a shadow of their memory.

A shadow holds one cell for each element (of the narrowest dtype that accesses the memory).  A launch may touch the
elements of the tensors that it was given and nothing else: not the gaps of a strided view, not the rest of its storage.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lisa_kernels.testing.sanitizer.traffic import SECTOR


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """A tensor as kernels address it; ``strides`` are in elements, ``start`` is the address of its first element."""

    name: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> View:
        return cls(name, tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    @property
    def elements(self) -> int:
        """Elements from the first to the last, gaps included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def end(self) -> int:
        return self.start + self.elements * self.dtype.itemsize

    @property
    def dense(self) -> bool:
        return math.prod(self.shape) == self.elements

    def same_memory(self, other: View) -> bool:
        mine, theirs = (self.start, self.shape, self.strides), (other.start, other.shape, other.strides)
        return mine == theirs and self.dtype == other.dtype

    def place(self, address: int) -> str:
        """Return the coordinates of the element at an address inside, ``x[3, 5]``, or what is wrong with it."""
        size = self.dtype.itemsize
        whole = f"{self.name}, {_spelled(self)}"
        if address >= self.end:
            return f"{distance((address - self.end) // size + 1)} past the end of {whole}"
        if address < self.start:
            return f"{distance(-((address - self.start) // size))} before the start of {whole}"
        element, byte = divmod(address - self.start, size)
        rest, coordinates = element, [0] * len(self.shape)
        for axis in sorted(range(len(self.shape)), key=lambda axis: -self.strides[axis]):
            if self.strides[axis] > 0 and self.shape[axis] > 1:
                coordinates[axis], rest = divmod(rest, self.strides[axis])
        outside = any(i >= size for i, size in zip(coordinates, self.shape, strict=True))
        if rest or outside:
            return f"between the elements of {whole}, {distance(element)} behind the first"
        spelled = f"{self.name}[{', '.join(map(str, coordinates))}]"
        return f"{spelled} byte {byte}" if byte else spelled


class Shadow:
    """What is known of each cell of one storage.

    Attributes:
        unit: Bytes of a cell, a power of two.
        writer: Serial number of the program that wrote it last, 0 for none.
        reader: That of the program that read it last, 0 for none; minus the launch's number where several did.
        atomic: Whether all writes of the last launch that wrote it were atomic.
        touched: Serial number of the program that touched it last.
        written: Whether it holds anything; None where all of it does.
        views: The tensors by which the current launch may touch it.
        owner: Index of the view that each cell belongs to, -1 for none; None where one dense view is all.
        bounds: First and last + 1 cell of that one view.
    """

    def __init__(self, storage: torch.UntypedStorage) -> None:
        # Held so that its address is not given to another tensor.
        self.storage = storage
        self.start = storage.data_ptr()
        self.end = self.start + storage.nbytes()
        self.unit = 16
        while (storage.nbytes() | self.start) & (self.unit - 1):
            self.unit //= 2
        cells = storage.nbytes() // self.unit
        self.writer = np.zeros(cells, dtype=np.int32)
        self.reader = np.zeros(cells, dtype=np.int32)
        self.touched = np.zeros(cells, dtype=np.int32)
        self.atomic = np.zeros(cells, dtype=bool)
        self.written: np.ndarray | None = None
        self.views: list[View] = []
        self.owner: np.ndarray | None = None
        self.bounds = (0, 0)
        # Of the last launch that wrote here.
        self.last_write = 0

    def allow(self, views: list[View]) -> None:
        """Let the current launch touch these tensors and nothing else."""
        for view in views:
            self.refine(view.dtype.itemsize | (view.start - self.start))
        if len(views) == len(self.views) and all(a.same_memory(b) for a, b in zip(views, self.views, strict=True)):
            self.views = views
            return
        self.views = views
        self._map_owners()

    def refine(self, bits: int) -> None:
        """Make cells so small that sizes and offsets of these bits are multiples of them."""
        unit = min(self.unit, bits & -bits)
        if unit == self.unit:
            return
        ratio, self.unit = self.unit // unit, unit
        for name in ("writer", "reader", "touched", "atomic", "written"):
            cells = getattr(self, name)
            setattr(self, name, None if cells is None else np.repeat(cells, ratio))
        self._map_owners()

    def cells_of(self, cells: np.ndarray, view: View) -> np.ndarray:
        """Return the part of an array of cells that belongs to a tensor of this storage, as a view."""
        count = view.dtype.itemsize // self.unit
        first = (view.start - self.start) // self.unit
        step = cells.itemsize
        strides = (*(stride * count * step for stride in view.strides), step)
        shape = (*view.shape, count)
        source = cells[first:] if 0 not in view.shape else cells[:0]
        return np.lib.stride_tricks.as_strided(source, shape=shape, strides=strides)

    def mark(self, view: View, *, written: bool) -> None:
        """Note that a tensor of this storage holds something, or nothing yet."""
        if written and self.written is None:
            return
        self.refine(view.dtype.itemsize | (view.start - self.start))
        if self.written is None:
            self.written = np.ones(len(self.writer), dtype=bool)
        self.cells_of(self.written, view)[...] = written

    def cells(self, offsets: np.ndarray, size: int) -> tuple[np.ndarray | slice, bool]:
        """Return the cells of accesses of ``size`` bytes at byte offsets, ascending, and whether some coincide."""
        if (int(np.bitwise_or.reduce(offsets)) | size) & (self.unit - 1):
            self.refine(int(np.bitwise_or.reduce(offsets)) | size)
        cells, duplicates = offsets // self.unit, False
        if not (cells[1:] > cells[:-1]).all():
            distinct = np.unique(cells)
            cells, duplicates = distinct, distinct.size < cells.size
        if size > self.unit:
            cells = (cells[:, None] + np.arange(size // self.unit)).reshape(-1)
        if cells[-1] - cells[0] + 1 == cells.size:
            return slice(int(cells[0]), int(cells[-1]) + 1), duplicates
        return cells, duplicates

    def sectors(self, cells: np.ndarray | slice) -> int:
        """Return how many 32-byte sectors ascending cells touch."""
        if isinstance(cells, slice):
            first, last = self.address(cells.start), self.address(cells.stop) - 1
            return last // SECTOR - first // SECTOR + 1
        sectors = (self.start + cells * self.unit) // SECTOR
        return 1 + int(np.count_nonzero(sectors[1:] != sectors[:-1]))

    def address(self, cell: int) -> int:
        return self.start + int(cell) * self.unit

    def legal(self, cells: np.ndarray | slice) -> bool:
        """Return whether the current launch may touch all of these cells, which ascend."""
        if self.owner is not None:
            return bool((self.owner[cells] >= 0).all())
        first, last = (cells.start, cells.stop - 1) if isinstance(cells, slice) else (cells[0], cells[-1])
        return bool(self.bounds[0] <= first and last < self.bounds[1])

    def _map_owners(self) -> None:
        self.owner = None
        if len(self.views) == 1 and self.views[0].dense:
            view = self.views[0]
            self.bounds = ((view.start - self.start) // self.unit, (view.end - self.start) // self.unit)
            return
        self.owner = np.full(len(self.writer), -1, dtype=np.int16)
        for index, view in reversed(list(enumerate(self.views))):
            self.cells_of(self.owner, view)[...] = index


class Memory:
    """All shadows, by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._shadows: list[Shadow] = []

    def shadow_of(self, tensor: Tensor) -> Shadow:
        """Return the shadow of a tensor's storage, a new one where there is none."""
        storage = tensor.untyped_storage()
        if (found := self.at(storage.data_ptr())) is not None:
            return found
        shadow = Shadow(storage)
        place = bisect.bisect(self._starts, shadow.start)
        self._starts.insert(place, shadow.start)
        self._shadows.insert(place, shadow)
        return shadow

    def at(self, address: int) -> Shadow | None:
        """Return the shadow that covers an address, or None."""
        place = bisect.bisect(self._starts, address) - 1
        if place < 0 or address >= self._shadows[place].end:
            return None
        return self._shadows[place]

    def nearest(self, address: int) -> View | None:
        """Return the tensor of the current launch that an address is closest to."""
        views = [view for shadow in self._shadows for view in shadow.views]
        return min(views, key=lambda view: max(view.start - address, address - view.end + 1, 0), default=None)

    def __iter__(self) -> Iterator[Shadow]:
        return iter(self._shadows)


def distance(elements: int) -> str:
    """Return ``1 element`` or ``2 elements``."""
    return f"{elements} element{'s' if elements > 1 else ''}"


def _spelled(view: View) -> str:
    dtype = str(view.dtype).removeprefix("torch.")
    strides = "" if view.dense else f" with strides ({', '.join(map(str, view.strides))})"
    return f"{dtype} ({', '.join(map(str, view.shape))}){strides}"
