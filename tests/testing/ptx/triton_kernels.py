"""Small Triton kernels that between them reach most of what Triton compiles to; the specimens are not repeated."""

import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out_ptr + i, tl.load(x_ptr + i, mask=mask) + tl.load(y_ptr + i, mask=mask), mask=mask)


@triton.jit
def overread_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.load(x_ptr + i), mask=i < n)


@triton.jit
def racy_sum_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.load(out_ptr) + tl.sum(tl.load(x_ptr + i), 0))


@triton.jit
def sort_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.sort(tl.load(x_ptr + i)))


@triton.jit
def gather_kernel(x_ptr, index_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.gather(tl.load(x_ptr + i), tl.load(index_ptr + i), 0))


@triton.jit
def argmax_kernel(x_ptr, out_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    tl.store(out_ptr + rows, tl.argmax(tl.load(x_ptr + rows[:, None] * COLUMNS + columns[None, :]), 1))


@triton.jit
def histogram_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.atomic_add(out_ptr + tl.load(x_ptr + i, mask=mask, other=0), 1, mask=mask)


@triton.jit
def atomic_float_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out_ptr + i % 16, tl.load(x_ptr + i))


@triton.jit
def lock_kernel(lock_ptr, out_ptr):
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    tl.store(out_ptr, tl.load(out_ptr) + 1)
    tl.atomic_xchg(lock_ptr, 0)


@triton.jit
def functions_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    total = tl.sqrt(x) + tl.log(x + 1) + tl.sin(x * 1e6) + tl.cos(x) + tl.erf(x) + tl.exp2(x) + tl.rsqrt(x + 1)
    tl.store(out_ptr + i, total + tl.floor(x * 3) + (x * 10).to(tl.int32).to(tl.float32))


@triton.jit
def dot_kernel(a_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, OUT: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    product = tl.dot(
        tl.load(a_ptr + m[:, None] * K + k[None, :]), tl.load(b_ptr + k[:, None] * N + n[None, :]), out_dtype=OUT
    )
    tl.store(c_ptr + m[:, None] * N + n[None, :], product)


@triton.jit
def transposed_dot_kernel(a_ptr, b_ptr, c_ptr, SIZE: tl.constexpr):
    """Products whose operands come transposed, and from registers."""
    i = tl.arange(0, SIZE)
    grid = i[:, None] * SIZE + i[None, :]
    a, b = tl.load(a_ptr + grid), tl.load(b_ptr + grid)
    first = tl.dot(tl.trans(a), b)
    tl.store(c_ptr + grid, tl.dot(first.to(a.dtype), tl.trans(b)))


@triton.jit
def pipelined_kernel(a_ptr, b_ptr, c_ptr, K: tl.constexpr, SIZE: tl.constexpr, BLOCK_K: tl.constexpr):
    i, k = tl.arange(0, SIZE), tl.arange(0, BLOCK_K)
    total = tl.zeros((SIZE, SIZE), tl.float32)
    for start in range(0, K, BLOCK_K):
        a = tl.load(a_ptr + i[:, None] * K + (start + k)[None, :])
        b = tl.load(b_ptr + (start + k)[:, None] * SIZE + i[None, :])
        total += tl.dot(a, b)
    tl.store(c_ptr + i[:, None] * SIZE + i[None, :], total)


@triton.jit
def cast_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.load(x_ptr + i).to(out_ptr.dtype.element_ty))


@triton.jit
def mixture_kernel(x_ptr, y_ptr, out_ptr, SIZE: tl.constexpr):
    """Features that a kernel may use beside those above; the result must be an fp32 number of moderate size."""
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    place = rows * SIZE + columns
    x, y = tl.load(x_ptr + place), tl.load(y_ptr + place)
    total = tl.dot(x, y, input_precision="tf32x3") + tl.dot(x, y, input_precision="ieee")
    total += tl.max(x, 1)[:, None] + tl.min(y, 0)[None, :] + tl.cumprod(tl.abs(x) * 0.01 + 1, 1)
    total += tl.clamp(x, -1.0, 1.0) + tl.sigmoid(y) + tl.flip(x, 1) + tl.trans(y)
    wide = place.to(tl.int64) * 12345678901
    total += (wide % 7).to(tl.float32) + (wide // 1000000007 % 5).to(tl.float32)
    total += (tl.umulhi(place, place * 100000) % 3).to(tl.float32) + (tl.xor_sum(place, 1) % 5)[:, None].to(tl.float32)
    tl.store(out_ptr + place, total)


@triton.jit
def reload_kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
    """Turns rows upside down through global memory, with a barrier between."""
    i = tl.arange(0, SIZE)
    grid = i[:, None] * SIZE + i[None, :]
    tl.store(out_ptr + grid, tl.load(x_ptr + grid))
    tl.debug_barrier()
    tl.store(x_ptr + grid, tl.load(out_ptr + (SIZE - 1 - i)[:, None] * SIZE + i[None, :]))


@triton.jit
def assert_kernel(x_ptr, limit, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    tl.device_assert(x < limit, "too large")
    tl.device_print("value", x)


@triton.jit
def inner_product_kernel(x_ptr, y_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.sum(tl.load(x_ptr + i) * tl.load(y_ptr + i)))


@triton.jit
def accumulate_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.load(x_ptr + i).to(tl.float32) + tl.load(out_ptr + i))


@triton.jit
def logarithm_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.log(tl.load(x_ptr + i)))
