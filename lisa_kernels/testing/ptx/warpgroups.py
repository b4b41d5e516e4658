"""Groups of wgmma: computed when issued; registers and shared operands are closed until the warpgroup waits (PTX ISA,
section "Asynchronous Warpgroup Level Matrix Instructions").
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.operands import Address, registers_in
from lisa_kernels.testing.ptx.shared import OPERAND_UNDER_WAY

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block
    from lisa_kernels.testing.ptx.module import Instruction


@dataclasses.dataclass
class WarpgroupProduct:
    """One wgmma under way.

    Attributes:
        accumulators: Registers it writes.
        operands: Registers it reads matrix A from.
        shape: Its shape and types; a following one of the same shape may use the accumulators.
        shared_bytes: Offsets in shared memory it reads.
    """

    accumulators: frozenset[str]
    operands: frozenset[str]
    shape: str
    shared_bytes: np.ndarray


class WarpgroupState:
    """What each warpgroup (four warps) of a block has under way."""

    def __init__(self, block: Block) -> None:
        self.block = block
        count = -(-block.count // 128)
        self._open: list[list[WarpgroupProduct]] = [[] for _ in range(count)]
        self._groups: list[list[list[WarpgroupProduct]]] = [[] for _ in range(count)]
        # Step of the last fence, and of the last other access to each register that wgmma uses.
        self._fenced = [-1] * count
        self._accessed: list[dict[str, int]] = [{} for _ in range(count)]
        self._shapes: list[dict[str, str]] = [{} for _ in range(count)]
        self._step = 0
        self._anything = False

    def fence(self, groups: np.ndarray) -> None:
        """``wgmma.fence``."""
        self._step += 1
        for group in groups:
            self._fenced[group] = self._step

    def check_fence(self, group: int, product: WarpgroupProduct) -> None:
        """Fault if a register of a product was touched after the warpgroup's last fence."""
        if self._fenced[group] < 0:
            raise self.block.fail("missing wgmma.fence", "no wgmma.fence stands before the first wgmma of a warpgroup")
        accessed, shapes = self._accessed[group], self._shapes[group]
        for name in product.accumulators | product.operands:
            late = accessed.get(name, -1) > self._fenced[group]
            other_shape = name in shapes and shapes[name] != product.shape
            if late or (other_shape and name in product.accumulators and self._is_open(group, name)):
                detail = f"{name} was accessed by other instructions after the last wgmma.fence"
                raise self.block.fail("missing wgmma.fence", detail, self._threads(group))

    def _is_open(self, group: int, name: str) -> bool:
        return any(name in product.accumulators for product in self._under_way(group))

    def issue(self, group: int, product: WarpgroupProduct) -> None:
        """A product is under way from now on."""
        self._open[group].append(product)
        for name in product.accumulators:
            self._shapes[group][name] = product.shape
        self._anything = True
        self.block.shared.mark(product.shared_bytes, OPERAND_UNDER_WAY)

    def commit(self, groups: np.ndarray) -> None:
        """``wgmma.commit_group``."""
        for group in groups:
            self._groups[group].append(self._open[group])
            self._open[group] = []

    def wait(self, groups: np.ndarray, allowed: int) -> None:
        """``wgmma.wait_group``: all but the newest ``allowed`` groups are complete."""
        shared = self.block.shared
        for group in groups:
            committed = self._groups[group]
            done = committed[: max(len(committed) - allowed, 0)]
            self._groups[group] = committed[len(done) :]
            for product in (product for finished in done for product in finished):
                shared.under_way[product.shared_bytes] = 0
                self._note_reads(group, product.shared_bytes)
        everything = [p for group in range(len(self._open)) for p in self._under_way(group)]
        for product in everything:
            shared.mark(product.shared_bytes, OPERAND_UNDER_WAY)
        self._anything = bool(everything)
        shared.settle()

    def touch(self, instruction: Instruction) -> None:
        """Another instruction accesses registers that wgmma uses: fault if they are under way, else note the access."""
        self._step += 1
        groups = np.unique(self.block.lanes // 128)
        # The instruction that waits may name the registers it waits for.
        written = written_registers(instruction)
        for group in groups:
            for product in self._under_way(group) if self._anything else ():
                busy = (product.accumulators & instruction.touched) | (product.operands & written)
                if busy and instruction.opcode == "mov" and not busy & written:
                    # Triton unpacks f16 accumulators before the wait, and ptxas makes the copy when they are ready:
                    # it is closed as long as its source.
                    product.accumulators |= written
                elif busy:
                    detail = f"{min(busy)} belongs to a wgmma that has not been waited for"
                    raise self.block.fail("unfinished wgmma", detail, self._threads(group))
            for name in instruction.touched & self.block.program.wgmma_registers:
                self._accessed[group][name] = self._step

    def _note_reads(self, group: int, offsets: np.ndarray) -> None:
        history = self.block.shared.history
        if history is not None:
            warps = np.arange(4 * group, 4 * group + 4)
            history.reads[warps[:, None], offsets] = self.block.clocks.now[warps][:, None]
            history.last_read[offsets] = self.block.clocks.now[warps].max()

    def _under_way(self, group: int) -> list[WarpgroupProduct]:
        return [*self._open[group], *(product for finished in self._groups[group] for product in finished)]

    def _threads(self, group: int) -> np.ndarray:
        return np.arange(128 * group, min(128 * group + 128, self.block.count))


def written_registers(instruction: Instruction) -> frozenset[str]:
    """Registers an instruction writes: those of its first operand, unless that is an address."""
    if not instruction.operands or isinstance(instruction.operands[0], Address):
        return frozenset()
    return frozenset(registers_in(instruction.operands[0]))
