"""Which tensor maps in global memory a block may use (PTX ISA, sections "Proxies" and "membar, fence:
fence.proxy.tensormap").

Tensor maps are read through a proxy of their own.  One that the kernel wrote must be acquired by
``fence.proxy.tensormap`` after it was written and before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.tensor_maps import SIZE

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block


class TensorMapFences:
    """The tensor maps that one block has acquired, by address."""

    def __init__(self, block: Block) -> None:
        self.block = block
        # Who wrote each byte when it was acquired, and the stamp of the fence.
        self._acquired: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def acquire(self, address: int, lane: int) -> None:
        """``fence.proxy.tensormap::generic.acquire``."""
        clocks, warp = self.block.clocks, self.block.warps[[lane]]
        self._acquired[address] = (self._writers(address), clocks.stamps(warp))
        clocks.advance(warp)

    def check(self, address: int, lane: int) -> None:
        """Fault if a tensor map in global memory was written and not acquired for a thread."""
        writers = self._writers(address)
        if not writers.any():
            return
        acquired, fence = self._acquired.get(address, (None, None))
        known = fence is not None and self.block.clocks.knows(self.block.warps[[lane]], fence)[0]
        if not known or not np.array_equal(acquired, writers):
            detail = "no fence.proxy.tensormap acquires this tensor map between its write and this use"
            raise PtxError("missing proxy fence", detail, threads=(lane,))

    def _writers(self, address: int) -> np.ndarray:
        memory = self.block.launch.global_memory
        region = memory.regions[memory.find(np.array([address]), SIZE, np.zeros(1, int))[0]]
        place = address - region.base
        return (
            np.zeros(SIZE, np.int32) if region.history is None else region.history.writes[place : place + SIZE].copy()
        )
