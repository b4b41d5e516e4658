"""Special registers (PTX ISA, section "Special Registers")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block

_LANEMASKS = {
    "eq": lambda lane: 1 << lane,
    "lt": lambda lane: (1 << lane) - 1,
    "le": lambda lane: (2 << lane) - 1,
    "gt": lambda lane: 0xFFFFFFFF & ~((2 << lane) - 1),
    "ge": lambda lane: 0xFFFFFFFF & ~((1 << lane) - 1),
}


def special_register(block: Block, name: str) -> np.ndarray:
    """Value for every thread, as int64.

    Clocks stand still at 0, and every block is on multiprocessor 0: what depends on them is not modelled.
    """
    thread = block.all_lanes
    if match := re.match(r"%(n?)(tid|ctaid)\.([xyz])", name):
        axis = "xyz".index(match[3])
        sizes = block.launch.block_shape
        if match[2] == "ctaid":
            value = block.launch.grid[axis] if match[1] else block.index[axis]
            return np.full(block.count, value)
        if match[1]:
            return np.full(block.count, sizes[axis])
        below = int(np.prod(sizes[:axis]))
        return thread // below % sizes[axis]
    if match := re.match(r"%lanemask_(\w+)", name):
        mask = _LANEMASKS[match[1]]
        return np.array([mask(int(lane)) for lane in block.lane_in_warp], np.int64)
    per_thread = {"%laneid": block.lane_in_warp, "%warpid": block.warps}
    if name in per_thread:
        return per_thread[name].astype(np.int64)
    shared = block.launch.shared_bytes
    constants = {
        "%nwarpid": len(block.launch.all_warps),
        "%nsmid": 1,
        "%dynamic_smem_size": shared - block.program.static_shared,
        "%total_smem_size": shared,
    }
    return np.full(block.count, constants.get(name, 0))
