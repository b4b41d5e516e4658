"""How long the emulator itself takes; says nothing about any GPU."""

from __future__ import annotations

import time

import torch
import triton
import triton.language as tl

from lisa_kernels.core.launch import specialise
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx.triton import run_compiled


@triton.jit
def _tile_kernel(a_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.arange(0, M)
    columns = tl.arange(0, N)
    steps = tl.arange(0, BLOCK_K)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, K, BLOCK_K):
        a = tl.load(a_ptr + rows[:, None] * K + (start + steps)[None, :])
        b = tl.load(b_ptr + (start + steps)[:, None] * N + columns[None, :])
        total += tl.dot(a, b)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], total)


def time_tile(target: str, num_warps: int, repeats: int = 3) -> float:
    """Return the seconds for one bf16 tile of 128x128x64 with all checks, compilation left out; best of ``repeats``."""
    a, b, c = torch.randn(128, 64).bfloat16(), torch.randn(64, 128).bfloat16(), torch.zeros(128, 128)
    constants = {"M": 128, "N": 128, "K": 64, "BLOCK_K": 32}
    options = {"num_warps": num_warps, "num_stages": 2, "enable_fp_fusion": True}
    record = specialise(_tile_kernel, (1,), (a, b, c), constexprs=constants, options=options)
    compiled = compile_launch(record, target)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run_compiled(compiled, record.grid, (a, b, c))
        seconds.append(time.perf_counter() - start)
    return min(seconds)
