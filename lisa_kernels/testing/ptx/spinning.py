"""Notices that a block runs in a circle: it waits for other blocks, or hangs.

A block whose registers, memory and threads are as they were when it came to the same instruction before will do the
same again until another block changes memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block

_FIRST_LOOK = 256


class SpinWatch:
    """Remembers one state of a block, a later one each time the steps have doubled (Brent 1980).

    Attributes:
        pc: Instruction of that state; -1 for none.
        due: Step at which the next state is to be remembered.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.pc, self.due = -1, _FIRST_LOOK
        self._mask = block.everyone
        self._registers: dict[str, np.ndarray] = {}
        self._changes = 0

    def remember(self, pc: int, mask: np.ndarray) -> None:
        """Take the state in which ``mask`` is to run the instruction at ``pc``."""
        self.pc, self._mask, self.due = pc, mask, 2 * self.due
        # Arrays of registers are never changed in place.
        self._registers = dict(self.block.registers)
        self._changes = count_changes(self.block)

    def is_back(self, mask: np.ndarray) -> bool:
        """Whether the block, at ``pc`` again, is in the remembered state and no other thread can run."""
        if self._changes != count_changes(self.block) or not self.block.threads.alone:
            return False
        if mask is not self._mask and not np.array_equal(mask, self._mask):
            return False
        for name, values in self.block.registers.items():
            before = self._registers.get(name)
            if before is not values and (before is None or not np.array_equal(before, values)):
                return False
        return True


def count_changes(block: Block) -> int:
    """A number that grows whenever a block changes memory, or anything else that it or other blocks may wait for."""
    return block.threads.changes + block.memory.changes + len(block.launch.printed)
