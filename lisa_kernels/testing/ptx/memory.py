"""State spaces and the generic address space (PTX ISA, section "State Spaces").

Global and constant memory have their real addresses, so that pointers stored in tensors work.  The other spaces are
windows above any address that a process can have.  Every access is checked: range, alignment, races, copies that are
still under way.
"""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.access_faults import check_alignment, fail, race, two_values
from lisa_kernels.testing.ptx.buffers import GlobalMemory, Region
from lisa_kernels.testing.ptx.clocks import Clocks
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.one_word import differing, winners
from lisa_kernels.testing.ptx.shared import READABLE, UNDER_WAY, SharedMemory

WINDOWS = {"shared": 1 << 48, "local": 1 << 49, "param": 1 << 50}
WINDOW_SIZE = 1 << 32
# Parameters of device functions are kept per thread, above those of the kernel.
THREAD_PARAMETERS = 1 << 20


class BlockMemory:
    """All memory that the threads of one block can reach.

    ``addresses`` are int64, one for each of ``lanes`` (thread indices); data are ``[lanes, width]`` bytes.
    """

    def __init__(
        self,
        global_memory: GlobalMemory,
        shared: SharedMemory,
        clocks: Clocks,
        *,
        local: np.ndarray,
        kernel_parameters: np.ndarray,
        thread_parameters: np.ndarray,
    ) -> None:
        self.global_memory, self.shared, self.clocks = global_memory, shared, clocks
        self.local, self.kernel_parameters, self.thread_parameters = local, kernel_parameters, thread_parameters
        # Stores and atomics that changed a byte.
        self.changes = 0

    def load(
        self, space: str, addresses: np.ndarray, width: int, lanes: np.ndarray, *, strong: bool = False
    ) -> np.ndarray:
        """Return ``width`` bytes for each lane."""
        check_alignment(addresses, width, lanes)
        data = np.empty((len(lanes), width), np.uint8)
        for part, offsets, memory in self._parts(space, addresses, width, lanes):
            data[part] = self._load_part(memory, offsets, width, lanes[part], strong)
            if isinstance(memory, Region):
                memory.loaded += len(offsets) * width
        return data

    def store(
        self,
        space: str,
        addresses: np.ndarray,
        data: np.ndarray,
        lanes: np.ndarray,
        *,
        strong: bool = False,
        element: int = 1,
    ) -> None:
        """Write the rows of ``data``, one for each lane; ``element`` is the bytes of one of its values."""
        width = data.shape[1]
        check_alignment(addresses, width, lanes)
        for part, offsets, memory in self._parts(space, addresses, width, lanes):
            self._store_part(memory, offsets, data[part], lanes[part], strong, element)
            if isinstance(memory, Region):
                memory.stored += len(offsets) * width

    def note(
        self, space: str, addresses: np.ndarray, width: int, lanes: np.ndarray, *, writes: bool,
        changed: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Check an access as a load or a store would, without moving data; ``changed`` bytes get another value."""
        check_alignment(addresses, width, lanes)
        for part, offsets, memory in self._parts(space, addresses, width, lanes):
            if isinstance(memory, np.ndarray):
                continue
            if writes:
                different = np.ones((len(offsets), width), bool) if changed is None else changed[part]
                self._check_write(memory, offsets // width, width, lanes[part], strong=False, changed=different)
            else:
                self._check_read(memory, offsets // width, width, lanes[part], strong=False)

    def check_async(self, offsets: np.ndarray, width: int, lane: int, *, writes: bool) -> None:
        """Check that the async proxy may read or write rows of shared memory for a thread.

        Writes through the generic proxy must lie behind a ``fence.proxy.async`` (PTX ISA, section "Async proxy").
        """
        lanes, rows = np.full(len(offsets), lane), offsets // width
        self._check_size(offsets, width, self.shared.size, lanes, "shared memory")
        history = self.shared.history
        stamps = None if history is None else history.writes.reshape(-1, width)[rows]
        if writes:
            changed = np.ones((len(rows), width), bool)
            self._check_write(self.shared, rows, width, lanes, strong=False, changed=changed)
        else:
            self._check_read(self.shared, rows, width, lanes, strong=False)
        if stamps is None:
            return
        unfenced = ~self.clocks.knows_proxied(lanes[:, None] // 32, stamps)
        if unfenced.any():
            access = "write" if writes else "read"
            detail = (
                f"no fence.proxy.async stands between the write of these bytes and this {access} by the async proxy"
            )
            fail("missing proxy fence", detail, self.shared, rows, unfenced, lanes)

    def locate(self, space: str, address: int, width: int, lane: int) -> tuple[np.ndarray, int]:
        """Return the byte array that holds an address, and the place in it."""
        parts = self._parts(space, np.array([address]), width, np.array([lane]))
        _, offsets, memory = next(iter(parts))
        if isinstance(memory, np.ndarray):
            return memory[lane] if memory.ndim == 2 else memory, int(offsets[0])
        return memory.bytes, int(offsets[0])

    def note_atomic(self, space: str, addresses: np.ndarray, width: int, lanes: np.ndarray) -> None:
        """Check a read-modify-write."""
        check_alignment(addresses, width, lanes)
        for part, offsets, memory in self._parts(space, addresses, width, lanes):
            if isinstance(memory, np.ndarray):
                continue
            rows, changed = offsets // width, np.ones((len(offsets), width), bool)
            self._check_read(memory, rows, width, lanes[part], strong=True)
            self._check_write(memory, rows, width, lanes[part], strong=True, changed=changed)

    def synchronise(
        self,
        space: str,
        addresses: np.ndarray,
        lanes: np.ndarray,
        *,
        releases: bool,
        acquires: bool,
        fences: bool,
        block_scope: bool,
    ) -> None:
        """Order blocks and warps by a strong access (see ``global_races``); ``block_scope`` for ``.cta``."""
        if self.shared.history is None:
            return
        places = addresses + WINDOWS["shared"] if space == "shared" else addresses
        # Shared memory of two blocks is not the same place, and .cta orders nothing between blocks.
        own = (places >= WINDOWS["shared"]) | block_scope
        places = np.where(own, places + ((self.clocks.block_ordinal + 1) << 52), places)
        warps = lanes // 32
        for warp in np.unique(warps):
            self.global_memory.order.synchronise(
                np.unique(places[warps == warp]).tolist(), int(warp), self.clocks,
                releases=releases, acquires=acquires, fences=fences,
            )  # fmt: skip

    def _parts(self, space: str, addresses: np.ndarray, width: int, lanes: np.ndarray):
        """Yield (which lanes, offsets, memory) for each piece of memory that the lanes hit."""
        if not len(lanes):
            return
        if space == "generic":
            yield from self._generic_parts(addresses, width, lanes)
        elif space in ("global", "const"):
            indices = self.global_memory.find(addresses, width, lanes)
            first = indices[0]
            if (indices == first).all():
                region = self.global_memory.regions[first]
                yield slice(None), addresses - region.base, region
                return
            for index in np.unique(indices):
                region = self.global_memory.regions[index]
                part = np.nonzero(indices == index)[0]
                yield part, addresses[part] - region.base, region
        elif space == "shared":
            self._check_size(addresses, width, self.shared.size, lanes, "shared memory")
            yield slice(None), addresses, self.shared
        elif space == "local":
            self._check_size(addresses, width, self.local.shape[1], lanes, "local memory")
            yield slice(None), addresses, self.local
        elif space == "param":
            yield from self._parameter_parts(addresses, width, lanes)
        else:
            raise PtxError("unsupported", f"state space .{space} is not modelled")

    def _generic_parts(self, addresses: np.ndarray, width: int, lanes: np.ndarray):
        rest = np.ones(len(lanes), bool)
        for space, start in WINDOWS.items():
            inside = (addresses >= start) & (addresses < start + WINDOW_SIZE)
            if inside.any():
                rest &= ~inside
                chosen = np.nonzero(inside)[0]
                for part, offsets, memory in self._parts(space, addresses[chosen] - start, width, lanes[chosen]):
                    yield chosen[part], offsets, memory
        if rest.all():
            yield from self._parts("global", addresses, width, lanes)
        elif rest.any():
            chosen = np.nonzero(rest)[0]
            for part, offsets, memory in self._parts("global", addresses[chosen], width, lanes[chosen]):
                yield chosen[part], offsets, memory

    def _parameter_parts(self, addresses: np.ndarray, width: int, lanes: np.ndarray):
        if (addresses < THREAD_PARAMETERS).all():
            self._check_size(addresses, width, len(self.kernel_parameters), lanes, "the kernel's parameters")
            yield slice(None), addresses, self.kernel_parameters
        else:
            offsets = addresses - THREAD_PARAMETERS
            self._check_size(offsets, width, self.thread_parameters.shape[1], lanes, "a function's parameters")
            yield slice(None), offsets, self.thread_parameters

    def _check_size(self, offsets: np.ndarray, width: int, size: int, lanes: np.ndarray, where: str) -> None:
        outside = (offsets < 0) | (offsets + width > size)
        if outside.any():
            first = int(offsets[outside][0])
            raise PtxError(
                "out of bounds", f"{width} bytes at offset {first} of {where}, which has {size} bytes",
                threads=tuple(lanes[outside].tolist()), buffer=where, offset=first,
            )  # fmt: skip

    def _load_part(self, memory, offsets: np.ndarray, width: int, lanes: np.ndarray, strong: bool) -> np.ndarray:
        rows = offsets // width
        if isinstance(memory, np.ndarray):
            if memory.ndim == 2:
                return memory[lanes[:, None], offsets[:, None] + np.arange(width)]
            return memory[offsets[:, None] + np.arange(width)]
        self._check_read(memory, rows, width, lanes, strong)
        return memory.bytes.reshape(-1, width)[rows]

    def _store_part(
        self, memory, offsets: np.ndarray, data: np.ndarray, lanes: np.ndarray, strong: bool, element: int
    ) -> None:
        width = data.shape[1]
        rows = offsets // width
        if isinstance(memory, np.ndarray):
            if memory.ndim != 2:
                raise PtxError("read only", "the kernel's parameters are written", threads=tuple(lanes.tolist()))
            places = lanes[:, None], offsets[:, None] + np.arange(width)
            self.changes += bool((memory[places] != data).any())
            memory[places] = data
            return
        table = memory.bytes.reshape(-1, width)
        won = winners(rows, lanes // 32) if memory.history is not None else None
        settled = data if won is None else data[won]
        changed = table[rows] != settled
        self.changes += bool(changed.any())
        self._check_write(memory, rows, width, lanes, strong, changed=changed)
        table[rows] = settled
        if won is not None:
            # Of one warp a lane wins; two warps must agree.
            lost = differing(data, won, element) | (table[rows] != settled)
            if lost.any():
                two_values(memory, rows, lost, lanes)

    def _check_read(self, memory, rows: np.ndarray, width: int, lanes: np.ndarray, strong: bool) -> None:
        if memory is self.shared and self.shared.anything_under_way:
            self._check_under_way(rows, width, lanes, writes=False)
        if memory.history is None:
            return
        unwritten = memory.history.unwritten(rows, width)
        if unwritten is not None:
            fail("uninitialised", "nothing has written these bytes", memory, rows, unwritten, lanes)
        conflict = memory.history.read(rows, width, lanes // 32, self.clocks, atomic=strong)
        if conflict is not None:
            race("reads bytes that", memory, rows, conflict, lanes)

    def _check_write(
        self, memory, rows: np.ndarray, width: int, lanes: np.ndarray, strong: bool, *, changed: np.ndarray
    ) -> None:
        if memory is self.shared and self.shared.anything_under_way:
            self._check_under_way(rows, width, lanes, writes=True)
        if isinstance(memory, Region) and not memory.writable:
            raise PtxError("read only", f"{memory.name} is written", threads=tuple(lanes.tolist()), buffer=memory.name)
        if isinstance(memory, Region) and memory.gaps is not None:
            outside = memory.gaps.reshape(-1, width)[rows]
            if outside.any():
                fail("out of bounds", "a write between the elements of a view", memory, rows, outside, lanes)
        if memory.history is None:
            return
        conflict = memory.history.write(rows, width, lanes // 32, self.clocks, atomic=strong, changed=changed)
        if conflict is not None:
            race("writes bytes that", memory, rows, conflict, lanes)

    def _check_under_way(self, rows: np.ndarray, width: int, lanes: np.ndarray, *, writes: bool) -> None:
        states = self.shared.under_way.reshape(-1, width)[rows]
        bad = states != 0 if writes else ~READABLE[states]
        if bad.any():
            kind, detail = UNDER_WAY[int(states[bad][0])]
            fail(kind, detail, self.shared, rows, bad, lanes)
