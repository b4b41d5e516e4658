"""Small kernels that show what ``core/tl_math.py`` and ``core/launch.py`` do."""

import triton
import triton.language as tl

from lisa_kernels.core.tl_math import block_offsets, dot, exp2, to_dtype


@triton.jit
def cast_kernel(x_ptr, out_ptr, n, scale, BLOCK: tl.constexpr):
    offs = block_offsets(0, BLOCK)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + offs, to_dtype(x * scale, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def exp2_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = block_offsets(0, BLOCK)
    mask = offs < n
    tl.store(out_ptr + offs, exp2(tl.load(x_ptr + offs, mask=mask, other=0.0)), mask=mask)


@triton.jit
def matmul_kernel(x_ptr, y_ptr, out_ptr, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """One output tile ``[BLOCK_M, BLOCK_N]``."""
    rows = tl.arange(0, BLOCK_M)[:, None]
    cols = tl.arange(0, BLOCK_N)[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        x = tl.load(x_ptr + rows * K + k + tl.arange(0, BLOCK_K)[None, :])
        y = tl.load(y_ptr + (k + tl.arange(0, BLOCK_K)[:, None]) * BLOCK_N + cols)
        acc = dot(x, y, acc)
    tl.store(out_ptr + rows * BLOCK_N + cols, to_dtype(acc, out_ptr.dtype.element_ty))
