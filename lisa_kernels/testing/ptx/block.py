"""The state of one thread block and the access of instructions to it.

All threads of the block are lanes of numpy arrays.  An instruction runs for the lanes of ``active``; arrays of
registers are never changed in place, so they may be shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.barriers import Barriers
from lisa_kernels.testing.ptx.bulk_copies import BulkCopies
from lisa_kernels.testing.ptx.clocks import Clocks
from lisa_kernels.testing.ptx.copy_groups import CopyGroups
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.mbarriers import MBarriers
from lisa_kernels.testing.ptx.memory import BlockMemory
from lisa_kernels.testing.ptx.operands import Address, Immediate, Operand, Register, Special, Symbol, Vector
from lisa_kernels.testing.ptx.shared import SharedMemory
from lisa_kernels.testing.ptx.special_registers import special_register
from lisa_kernels.testing.ptx.tensor_map_fences import TensorMapFences
from lisa_kernels.testing.ptx.threads import Threads
from lisa_kernels.testing.ptx.values import SCALAR_FLOATS, STORAGE, bits_of, decode, encode, resize
from lisa_kernels.testing.ptx.warpgroups import WarpgroupState

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.launch import Launch

_NO_LANES = np.zeros(0, np.int64)


class Block:
    """One thread block while it runs.

    Attributes:
        index: ``(x, y, z)`` in the grid.
        active: The lanes that the current instruction runs for; ``lanes`` holds their indices.
        full: Whether these are all threads of the block.
        threads: Program counters and who waits for what.
    """

    def __init__(self, launch: Launch, index: tuple[int, int, int], ordinal: int) -> None:
        self.launch, self.index, self.ordinal = launch, index, ordinal
        self.program = launch.program
        self.count = launch.threads_per_block
        self.everyone = launch.everyone
        self.all_lanes = launch.all_lanes
        self.warps = launch.warps
        self.lane_in_warp = launch.lane_in_warp
        self.clocks = Clocks(launch.ticks, ordinal, launch.agents)
        self.shared = SharedMemory(launch.shared_bytes, launch.agents, launch.options.check_races)
        program = self.program
        self.memory = BlockMemory(
            launch.global_memory, self.shared, self.clocks,
            local=np.full((self.count, program.local_size), 0xFF, np.uint8),
            kernel_parameters=launch.parameters,
            thread_parameters=np.zeros((self.count, program.thread_parameter_size), np.uint8),
        )  # fmt: skip
        self.threads = Threads(self)
        self.barriers = Barriers(self)
        self.copies = CopyGroups(self)
        self.warpgroups = WarpgroupState(self)
        self.mbarriers = MBarriers(self)
        self.bulk_copies = BulkCopies(self)
        self.tensor_map_fences = TensorMapFences(self)
        self.registers: dict[str, np.ndarray] = {}
        self.carry = np.zeros(self.count, np.uint64)
        self._special: dict[str, np.ndarray] = {}
        self.set_active(self.everyone)

    def set_active(self, mask: np.ndarray) -> None:
        """Choose the lanes of the next instruction."""
        self.active = mask
        if mask is self.everyone:
            self.full, self.lanes = True, self.all_lanes
        else:
            self.lanes = np.nonzero(mask)[0]
            self.full = len(self.lanes) == self.count

    def active_warps(self) -> np.ndarray:
        """Indices of the warps with an active lane."""
        return self.launch.all_warps if self.full else np.unique(self.warps[self.lanes])

    # Registers and operands

    def read(self, operand: Operand, type_name: str) -> np.ndarray:
        """Value of an operand for every lane, in the storage dtype of ``type_name``; not to be changed."""
        storage = STORAGE[type_name]
        if isinstance(operand, Register):
            values = self.registers.get(operand.name)
            if values is None:
                values = self._unwritten(operand.name)
            if operand.negated:
                return ~values
            return values if values.dtype == storage else resize(values, storage)
        if isinstance(operand, Immediate):
            return self.launch.constant(operand, storage)
        if isinstance(operand, Special):
            values = self._special.get(operand.name)
            if values is None:
                values = self._special[operand.name] = special_register(self, operand.name)
            return values.astype(storage)
        if isinstance(operand, Symbol):
            return np.full(self.count, self.address_of(operand), np.int64).astype(storage)
        raise PtxError("unsupported", f"{operand} stands where a value is expected")

    def read_float(self, operand: Operand, type_name: str) -> np.ndarray:
        """Value of a float operand in the precision it is computed in: float64 for f64, else float32."""
        return decode(self.read(operand, type_name), type_name)

    def write(self, operand: Operand, values: np.ndarray) -> None:
        """Set a register in the active lanes; signed values are extended by their sign, others by zeros."""
        name = operand.name
        if name == "_":
            return
        storage = self.launch.register_storage[name]
        if values.dtype != storage:
            if values.dtype.kind == "f":
                values = bits_of(values)
            if storage.kind == "b":
                values = values.astype(bool)
            elif values.dtype.itemsize != storage.itemsize and values.dtype.kind == "i":
                values = values.astype(f"i{storage.itemsize}").view(storage)
            else:
                values = resize(values, storage)
        if not self.full:
            old = self.registers.get(name)
            values = np.where(self.active, values, self._unwritten(name) if old is None else old)
        self.registers[name] = values

    def write_float(self, operand: Operand, values: np.ndarray, type_name: str, rounding: str = "rn") -> None:
        """Round computed values to a type and set a register."""
        self.write(operand, encode(values, type_name, rounding) if type_name in SCALAR_FLOATS else values)

    def write_lanes(self, operand: Operand, values: np.ndarray) -> None:
        """Set a register from values of the active lanes alone."""
        if self.full:
            self.write(operand, values)
            return
        spread = np.zeros(self.count, values.dtype)
        spread[self.lanes] = values
        self.write(operand, spread)

    def _unwritten(self, name: str) -> np.ndarray:
        # What a register holds before it is written is undefined: all ones, NaN in every float type.
        storage = self.launch.register_storage[name]
        values = np.ones(self.count, bool) if storage.kind == "b" else np.full(self.count, -1).astype(storage)
        self.registers[name] = values
        return values

    def items(self, operand: Operand) -> tuple[Operand, ...]:
        """Elements of a vector operand; a single operand is a vector of one."""
        return operand.items if isinstance(operand, Vector) else (operand,)

    # Addresses

    def address_of(self, symbol: Symbol) -> int:
        """Address of a variable in its own state space."""
        if symbol.name not in self.program.symbols:
            raise PtxError("unsupported", f"{symbol.name} is not declared")
        return self.program.symbols[symbol.name][1] + symbol.offset

    def addresses(self, operand: Address) -> np.ndarray:
        """Addresses of the active lanes, as int64."""
        base = operand.base
        if isinstance(base, Register):
            values = self.read(base, self.launch.register_type(base.name))[self.lanes]
            # A 32-bit register holds an offset in its window.
            values = values.astype(np.int64) if values.dtype.itemsize < 8 else values.view(np.int64)
            return values + operand.offset
        if isinstance(base, Symbol):
            return np.full(len(self.lanes), self.address_of(base) + operand.offset, np.int64)
        return np.full(len(self.lanes), base.value + operand.offset, np.int64)

    def fail(self, kind: str, detail: str, lanes: np.ndarray = _NO_LANES) -> PtxError:
        """Return a fault of these threads, to be raised."""
        return PtxError(kind, detail, threads=tuple(int(lane) for lane in lanes))
