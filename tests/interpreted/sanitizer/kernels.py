"""Right kernels, and the same with one fault each."""

import triton
import triton.language as tl


@triton.jit
def copy_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n), mask=offs < n)


@triton.jit
def unmasked_load_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs), mask=offs < n)


@triton.jit
def unmasked_store_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n, other=0.0))


@triton.jit
def below_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs - 2, mask=offs < n), mask=offs < n)


@triton.jit
def widened_store_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """Stores 8 bytes a lane into a tensor of 4."""
    offs = tl.arange(0, BLOCK)
    wide = out_ptr.to(tl.pointer_type(tl.float64))
    tl.store(wide + offs, tl.load(x_ptr + offs).to(tl.float64))


@triton.jit
def bytes_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """Copies a tensor of any dtype byte by byte."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x, out = x_ptr.to(tl.pointer_type(tl.int8)), out_ptr.to(tl.pointer_type(tl.int8))
    tl.store(out + offs, tl.load(x + offs))


@triton.jit
def asserting_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n)
    tl.device_assert(x > 0, "x must be positive", mask=offs < n)
    tl.store(out_ptr + offs, x, mask=offs < n)


@triton.jit
def careless_sum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Sums lanes that are masked off, too."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out_ptr, tl.sum(tl.load(x_ptr + offs, mask=offs < n)))


@triton.jit
def hole_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n), mask=offs < n - 1)


@triton.jit
def overlap_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Programs step by BLOCK - 1 and so write one element twice, with the same value."""
    offs = tl.program_id(0) * (BLOCK - 1) + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n), mask=offs < n)


@triton.jit
def rows_kernel(x_ptr, out_ptr, stride, COLUMNS: tl.constexpr):
    """One row a program; COLUMNS beyond the view's width reads and writes its neighbours."""
    offs = tl.program_id(0) * stride + tl.arange(0, COLUMNS)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs))


@triton.jit
def racy_sum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.load(out_ptr) + tl.sum(tl.load(x_ptr + offs, mask=offs < n, other=0.0)))


@triton.jit
def atomic_sum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out_ptr, tl.sum(tl.load(x_ptr + offs, mask=offs < n, other=0.0)))


@triton.jit
def look_kernel(count_ptr, out_ptr):
    """Program 0 counts atomically; all look at the count by a plain load."""
    if tl.program_id(0) == 0:
        tl.atomic_add(count_ptr, 1)
    tl.store(out_ptr + tl.program_id(0), tl.load(count_ptr))


@triton.jit
def last_overwrites_kernel(x_ptr, out_ptr):
    """All programs read one element; the last one then changes it."""
    pid = tl.program_id(0)
    tl.store(out_ptr + pid, tl.load(x_ptr))
    if pid == tl.num_programs(0) - 1:
        tl.store(x_ptr, 0.0)


@triton.jit
def late_init_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Program 0 sets what all others add to."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(0) == 0:
        tl.store(out_ptr, 0.0)
    tl.atomic_add(out_ptr, tl.sum(tl.load(x_ptr + offs, mask=offs < n, other=0.0)))


@triton.jit
def scatter_kernel(index_ptr, x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    target = tl.load(index_ptr + offs, mask=offs < n, other=0)
    tl.store(out_ptr + target, tl.load(x_ptr + offs, mask=offs < n), mask=offs < n)


@triton.jit
def gather_rows_kernel(index_ptr, x_ptr, out_ptr, n, D: tl.constexpr, BLOCK: tl.constexpr):
    offs, columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, D)
    rows = tl.load(index_ptr + offs, mask=offs < n, other=0)
    x = tl.load(x_ptr + rows[:, None] * D + columns[None, :], mask=(offs < n)[:, None])
    tl.store(out_ptr + offs[:, None] * D + columns[None, :], x, mask=(offs < n)[:, None])


@triton.jit
def partial_kernel(x_ptr, work_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(work_ptr + tl.program_id(0), tl.sum(tl.load(x_ptr + offs, mask=offs < n, other=0.0)))


@triton.jit
def combine_kernel(work_ptr, out_ptr, parts, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.sum(tl.load(work_ptr + offs, mask=offs < parts, other=0.0)))


@triton.jit
def hand_over_kernel(data_ptr, flag_ptr, out_ptr):
    """Each program hands its number to the next one behind a flag."""
    pid = tl.program_id(0)
    tl.store(data_ptr + pid, pid)
    tl.atomic_xchg(flag_ptr + pid, 1, sem="release")
    if pid > 0:
        tl.atomic_add(flag_ptr + pid - 1, 0, sem="acquire")
        tl.store(out_ptr + pid, tl.load(data_ptr + pid - 1))


@triton.jit
def chain_kernel(sum_ptr, flag_ptr, BACKWARD: tl.constexpr):
    """Each program waits for its neighbour's flag and adds one to its sum."""
    pid, last = tl.program_id(0), tl.num_programs(0) - 1
    neighbour = pid + 1 if BACKWARD else pid - 1
    first = pid == last if BACKWARD else pid == 0
    total = 1
    if not first:
        tl.atomic_poll(flag_ptr + neighbour, 1)
        total += tl.load(sum_ptr + neighbour)
    tl.store(sum_ptr + pid, total)
    tl.atomic_store(flag_ptr + pid, 1, sem="release")


@triton.jit
def through_address_kernel(address_ptr, out_ptr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    source = tl.load(address_ptr).to(tl.pointer_type(tl.float32))
    tl.store(out_ptr + offs, tl.load(source + offs))


@triton.jit
def descriptor_kernel(source, target, BLOCK: tl.constexpr):
    at = [tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK]
    target.store(at, source.load(at))


@triton.jit
def matmul_kernel(a_ptr, b_ptr, out_ptr, K, N, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        a = tl.load(a_ptr + rows[:, None] * K + (k + depth)[None, :])
        b = tl.load(b_ptr + (k + depth)[:, None] * N + columns[None, :])
        acc = tl.dot(a, b, acc)
    tl.store(out_ptr + rows[:, None] * N + columns[None, :], acc.to(out_ptr.dtype.element_ty))


@triton.jit
def attention_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, n, GROUP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    """Attention without the scale, heads outermost; GROUP query heads share one key head."""
    head = tl.program_id(1)
    rows, columns = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D)
    q = tl.load(q_ptr + head * n * D + rows[:, None] * D + columns[None, :])
    top = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for start in range(0, n, BN):
        keys = (head // GROUP) * n * D + (start + tl.arange(0, BN))[:, None] * D + columns[None, :]
        scores = tl.dot(q, tl.load(k_ptr + keys).T)
        new = tl.maximum(top, tl.max(scores, 1))
        weights, shrink = tl.exp(scores - new[:, None]), tl.exp(top - new)
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(v_ptr + keys)
        acc = acc * shrink[:, None] + tl.dot(weights.to(v.dtype), v)
        top = new
    out = (acc / total[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + head * n * D + rows[:, None] * D + columns[None, :], out)
