"""Shared memory of one block, and what asynchronous work is doing to it (PTX ISA, section "Shared State Space")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.races import AccessHistory

# What is under way in shared memory: kind of the fault, what a reader and a writer did wrong.
COPY_UNDER_WAY, OPERAND_UNDER_WAY, BULK_COPY_UNDER_WAY, BULK_STORE_UNDER_WAY, MBARRIER = range(1, 6)
UNDER_WAY = {
    COPY_UNDER_WAY: ("unfinished cp.async", "an asynchronous copy to these bytes has not been waited for"),
    OPERAND_UNDER_WAY: ("unfinished wgmma", "a wgmma that has not been waited for still reads these bytes"),
    BULK_COPY_UNDER_WAY: (
        "unfinished bulk copy", "no wait on its mbarrier stands between a bulk copy to these bytes and this access"
    ),
    BULK_STORE_UNDER_WAY: ("unfinished bulk copy", "a bulk copy that has not been waited for still reads these bytes"),
    MBARRIER: ("mbarrier misuse", "these bytes are an mbarrier, which only mbarrier instructions may access"),
}  # fmt: skip
# Operands and sources may be read meanwhile.
READABLE = np.isin(np.arange(len(UNDER_WAY) + 1), (0, OPERAND_UNDER_WAY, BULK_STORE_UNDER_WAY))


class SharedMemory:
    """Shared memory of one block; starts as 0xff, NaN in every float type."""

    def __init__(self, size: int, agents: int, check_races: bool) -> None:
        room = -(-size // 128) * 128 + 128
        self.size = size
        self.bytes = np.full(room, 0xFF, np.uint8)
        self.history = AccessHistory(room, agents) if check_races else None
        self.under_way = np.zeros(room, np.uint8)
        self.anything_under_way = False

    def mark(self, offsets: np.ndarray, what: int) -> None:
        """Say what is under way at some bytes; 0 ends it."""
        self.under_way[offsets] = what
        self.anything_under_way = self.anything_under_way or bool(what)

    def settle(self) -> None:
        """Look whether anything is still under way."""
        self.anything_under_way = bool(self.under_way.any())
