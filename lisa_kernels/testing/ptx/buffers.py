"""Global memory: the tensors a kernel may touch, under their real addresses."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.global_races import BlockOrder, GlobalHistory

# The widest access; regions are laid out so that rows of any width start at multiples of it.
_GRAIN = 128


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A named range of addresses that a kernel may access; a view as an argument narrows the range to the view.

    ``elements`` marks the bytes of a view with gaps that belong to it: gaps may be read, never written.
    """

    name: str
    start: int
    size: int
    writable: bool = True
    elements: np.ndarray | None = None

    @classmethod
    def of(cls, value: Any, name: str) -> Buffer:
        """Of a CPU tensor or a numpy array, which must stay alive."""
        if hasattr(value, "data_ptr"):
            if value.device.type != "cpu":
                raise ValueError(f"emulate: {name} is on {value.device}; it takes CPU tensors.")
            extent = sum((size - 1) * abs(stride) for size, stride in zip(value.shape, value.stride(), strict=True))
            size = (extent + 1) * value.element_size() if value.numel() else 0
            gaps = size > value.numel() * value.element_size()
            return cls(name, value.data_ptr(), size, True, _element_bytes(value, size) if gaps else None)
        return cls(name, value.ctypes.data, value.nbytes, value.flags.writeable)


class Region:
    """Overlapping buffers as one piece of memory with one history."""

    def __init__(self, buffers: list[Buffer]) -> None:
        self.buffers = buffers
        self.start = min(buffer.start for buffer in buffers)
        self.end = max(buffer.start + buffer.size for buffer in buffers)
        self.writable = any(buffer.writable for buffer in buffers)
        self.base = self.start // _GRAIN * _GRAIN
        self.history: GlobalHistory | None = None
        # Bytes that all accesses asked for; atomics are not counted.
        self.loaded = self.stored = 0
        self.gaps = self._gaps()
        # Reaches into the pages' rest on both sides; the range is checked before each access.
        room = -(-(self.end - self.base) // _GRAIN) * _GRAIN
        self.bytes = np.frombuffer((ctypes.c_uint8 * room).from_address(self.base), np.uint8)

    def _gaps(self) -> np.ndarray | None:
        """Bytes that belong to no element, or None."""
        if all(buffer.elements is None for buffer in self.buffers):
            return None
        gaps = np.ones(-(-(self.end - self.base) // _GRAIN) * _GRAIN, bool)
        for buffer in self.buffers:
            place = buffer.start - self.base
            gaps[place : place + buffer.size] &= False if buffer.elements is None else ~buffer.elements
        return gaps

    @property
    def name(self) -> str:
        return " and ".join(dict.fromkeys(buffer.name for buffer in self.buffers))

    def describe(self, address: int) -> tuple[str, int]:
        """Return the buffer that holds or is nearest to an address, and the byte offset from its start."""
        nearest = min(self.buffers, key=lambda buffer: _distance(buffer, address))
        return nearest.name, address - nearest.start


class GlobalMemory:
    """All buffers of a launch."""

    def __init__(self, buffers: list[Buffer], *, agents: int, check_races: bool) -> None:
        self.order = BlockOrder()
        self.regions: list[Region] = []
        pending: list[Buffer] = []
        for buffer in sorted((buffer for buffer in buffers if buffer.size), key=lambda buffer: buffer.start):
            # Buffers within one grain share a history as well: rows of two regions must not overlap.
            if pending and buffer.start // _GRAIN * _GRAIN >= _rounded_end(pending):
                self.regions.append(Region(pending))
                pending = []
            pending.append(buffer)
        if pending:
            self.regions.append(Region(pending))
        if check_races:
            for region in self.regions:
                region.history = GlobalHistory(len(region.bytes), agents, self.order)
        ranges = _merged_ranges(buffers)
        self._starts = np.array([start for start, _ in ranges], np.int64)
        self._ends = np.array([end for _, end in ranges], np.int64)
        self._bases = np.array([region.base for region in self.regions], np.int64)

    def mark(self, buffers: Iterable[Buffer], what: Literal["exempt", "blank"]) -> None:
        """Give all bytes of buffers a property of ``GlobalHistory``."""
        for buffer in buffers:
            for region in self.regions:
                if region.history is not None and region.start <= buffer.start < region.end:
                    mark = region.history.mark_exempt if what == "exempt" else region.history.mark_blank
                    mark(buffer.start - region.base, buffer.size)

    def find(self, addresses: np.ndarray, width: int, lanes: np.ndarray) -> np.ndarray:
        """Return the region of each address.

        Raises:
            PtxError: Of kind ``out of bounds``, naming the nearest buffer.
        """
        if not len(self._starts):
            raise PtxError("out of bounds", "global memory is accessed, and no argument is a tensor")
        place = np.searchsorted(self._starts, addresses, "right") - 1
        outside = (place < 0) | (addresses + width > self._ends[place])
        if outside.any():
            self._fail(int(addresses[outside][0]), width, tuple(lanes[outside].tolist()))
        return np.searchsorted(self._bases, addresses, "right") - 1

    def read(self, addresses: np.ndarray, width: int) -> np.ndarray:
        """Return ``[addresses, width]`` bytes, of addresses that were checked before."""
        data = np.empty((len(addresses), width), np.uint8)
        for region, part, rows in self._rows(addresses, width):
            region.loaded += rows.size
            data[part] = region.bytes[rows]
        return data

    def write(self, addresses: np.ndarray, data: np.ndarray) -> None:
        """Write rows at addresses that were checked before."""
        for region, part, rows in self._rows(addresses, data.shape[1]):
            region.stored += rows.size
            region.bytes[rows] = data[part]

    def stamp(self, addresses: np.ndarray, width: int, stamp: np.ndarray) -> None:
        """Say who wrote rows last."""
        for region, _, rows in self._rows(addresses, width):
            if region.history is not None:
                region.history.writes[rows] = stamp

    def _rows(self, addresses: np.ndarray, width: int) -> Iterator[tuple[Region, np.ndarray, np.ndarray]]:
        """Yield (region, which of the addresses, ``[n, width]`` places of their bytes in it)."""
        indices = np.searchsorted(self._bases, addresses, "right") - 1
        for index in np.unique(indices):
            region, part = self.regions[index], np.nonzero(indices == index)[0]
            yield region, part, (addresses[part] - region.base)[:, None] + np.arange(width)

    def _fail(self, address: int, width: int, threads: tuple[int, ...]) -> None:
        buffers = [buffer for region in self.regions for buffer in region.buffers]
        nearest = min(buffers, key=lambda buffer: _distance(buffer, address))
        offset = address - nearest.start
        detail = f"{width} bytes at address {address:#x}; nearest is {nearest.name}"
        detail += f" of {nearest.size} bytes, at byte offset {offset}"
        if not -nearest.size <= offset < 2 * nearest.size:
            detail += "; memory that is reached through stored pointers only is named by buffers="
        raise PtxError("out of bounds", detail, threads=threads, buffer=nearest.name, offset=offset)


def _element_bytes(tensor: Any, size: int) -> np.ndarray:
    offsets = np.zeros((), np.int64)
    for count, stride in zip(tensor.shape, tensor.stride(), strict=True):
        offsets = offsets[..., None] + np.arange(count) * stride
    marked = np.zeros((size // tensor.element_size(), tensor.element_size()), bool)
    marked[offsets.reshape(-1)] = True
    return marked.reshape(-1)


def _rounded_end(buffers: list[Buffer]) -> int:
    end = max(buffer.start + buffer.size for buffer in buffers)
    return -(-end // _GRAIN) * _GRAIN


def _merged_ranges(buffers: list[Buffer]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((buffer.start, buffer.start + buffer.size) for buffer in buffers if buffer.size):
        # Neighbours that merely touch stay apart: an access across their border is a fault.
        if ranges and start < ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges


def _distance(buffer: Buffer, address: int) -> int:
    return max(buffer.start - address, address - (buffer.start + buffer.size - 1), 0)
