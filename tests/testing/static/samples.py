"""Figures made up for gates and tables."""

import dataclasses

from lisa_kernels.testing.static.figures import KernelFigures, LoopFigures

LOOP = LoopFigures(
    head="0x100",
    is_loop=True,
    instructions=100,
    mix={"HMMA": 64, "LDSM": 24},
    mma={"HMMA.16816.F32.BF16": 64},
    special=0,
    barriers=2,
    spills=0,
    global_access={"LDGSTS.128": 8},
    shared_access={"LDSM.128": 24},
    pipes={"tensor": 1000.0, "shared": 1250.0},
    bound_pipe="shared",
    ceiling=0.8,
    sim=0.6,
    sim_range=(0.58, 0.62),
)
KERNEL = KernelFigures(
    kernel="matmul_kernel",
    target="sm_80",
    toolchain="triton 3.9.0",
    threads=256,
    registers=128,
    spills=0,
    stack_bytes=0,
    shared_bytes=65536,
    blocks_per_sm=2,
    waves_per_simd=None,
    limited_by="registers",
    occupancy=0.25,
    instructions=400,
    dots=1,
    mma={"HMMA": 64},
    bulk_copies=0,
    loops=(LOOP,),
)


def kernel(loop=(), **changes):
    """Return the sample with other figures; ``loop`` changes its hot loop."""
    hot = dataclasses.replace(LOOP, **dict(loop))
    return dataclasses.replace(KERNEL, loops=(hot,), **changes)
