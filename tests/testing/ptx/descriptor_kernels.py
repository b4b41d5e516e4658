"""Triton kernels that reach tensors through descriptors, made by the host or by the kernel."""

import triton
import triton.language as tl


@triton.jit
def matmul_kernel(a, b, c, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        total += tl.dot(a.load([row, k]), b.load([k, column]))
    c.store([row, column], total.to(c.dtype))


@triton.jit
def device_matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    a = tl.make_tensor_descriptor(a_ptr, [M, K], [K, 1], [BLOCK_M, BLOCK_K])
    b = tl.make_tensor_descriptor(b_ptr, [K, N], [N, 1], [BLOCK_K, BLOCK_N])
    c = tl.make_tensor_descriptor(c_ptr, [M, N], [N, 1], [BLOCK_M, BLOCK_N])
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        total += tl.dot(a.load([row, k]), b.load([k, column]))
    c.store([row, column], total.to(c.dtype))


@triton.jit
def transposed_matmul_kernel(a, b, c, K, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr):
    """The second matrix lies transposed, and the result is stored with plain stores."""
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for k in range(0, K, BLOCK_K):
        total += tl.dot(a.load([row, k]), b.load([column, k]).T)
    i = tl.arange(0, BLOCK)
    tl.store(c + (row + i)[:, None] * (tl.num_programs(1) * BLOCK) + (column + i)[None, :], total)


@triton.jit
def persistent_kernel(x, out, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Each program copies several tiles through the same shared memory."""
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        out.store([tile * ROWS, 0], x.load([tile * ROWS, 0]) + 1)


@triton.jit
def softmax_kernel(x_ptr, out_ptr, rows, columns, BLOCK: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, [rows, columns], [columns, 1], [1, BLOCK])
    out = tl.make_tensor_descriptor(out_ptr, [rows, columns], [columns, 1], [1, BLOCK])
    values = x.load([tl.program_id(0), 0])
    values = tl.where(tl.arange(0, BLOCK)[None, :] < columns, values, float("-inf"))
    power = tl.exp(values - tl.max(values, 1)[:, None])
    out.store([tl.program_id(0), 0], power / tl.sum(power, 1)[:, None])


@triton.jit
def copy_kernel(x, out_ptr, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One tile, stored densely by plain stores."""
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    tl.store(out_ptr + i * COLUMNS + j, x.load([row, column]))


@triton.jit
def copy_box_kernel(x, out, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    """A tile of three dimensions."""
    out.store([0, tl.program_id(0) * B, 0], x.load([0, tl.program_id(0) * B, 0]))


@triton.jit
def accumulate_kernel(x, out, ROWS: tl.constexpr):
    out.atomic_add([0, 0], x.load([tl.program_id(0) * ROWS, 0]))


@triton.jit
def specialised_kernel(a, b, c, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Some warps load, others multiply."""
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in tl.range(0, K, BLOCK_K, warp_specialize=True):
        total += tl.dot(a.load([row, k]), b.load([k, column]))
    c.store([row, column], total.to(c.dtype))
