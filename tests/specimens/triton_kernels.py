"""A matmul, a softmax, a flash-attention forward and a scan, each with a tail in every dimension."""

import triton
import triton.language as tl

from lisa_kernels.core.tl_math import dot, to_dtype


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, out_ptr, M, N, K, stride_am, stride_bk, stride_om,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    row_mask = (rows < M)[:, None]
    col_mask = (cols < N)[None, :]
    a_ptrs = a_ptr + rows[:, None] * stride_am + inner[None, :]
    b_ptrs = b_ptr + inner[:, None] * stride_bk + cols[None, :]

    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, K, BLOCK_K):
        left = K - k
        a = tl.load(a_ptrs, mask=row_mask & (inner < left)[None, :], other=0.0)
        b = tl.load(b_ptrs, mask=(inner < left)[:, None] & col_mask, other=0.0)
        acc = dot(a, b, acc)
        a_ptrs += BLOCK_K
        b_ptrs += BLOCK_K * stride_bk

    out = to_dtype(acc, out_ptr.dtype.element_ty)
    tl.store(out_ptr + rows[:, None] * stride_om + cols[None, :], out, mask=row_mask & col_mask)


@triton.jit
def softmax_kernel(x_ptr, out_ptr, n_cols, stride_x, stride_out, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n_cols
    x = tl.load(x_ptr + row * stride_x + cols, mask=mask, other=float("-inf")).to(tl.float32)

    weights = tl.exp(x - tl.max(x, 0))
    out = weights / tl.sum(weights, 0)

    tl.store(out_ptr + row * stride_out + cols, to_dtype(out, out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def attention_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, n_queries, n_keys, scale_log2,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One head after the other along the second grid axis; q, k, v, out are ``[heads, tokens, HEAD_DIM]``."""
    head = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, HEAD_DIM)
    keys = tl.arange(0, BLOCK_N)
    row_mask = rows < n_queries
    q_offs = head * n_queries * HEAD_DIM + rows[:, None] * HEAD_DIM + dims[None, :]
    q = tl.load(q_ptr + q_offs, mask=row_mask[:, None], other=0.0)
    k_ptrs = k_ptr + head * n_keys * HEAD_DIM + dims[:, None] + keys[None, :] * HEAD_DIM
    v_ptrs = v_ptr + head * n_keys * HEAD_DIM + keys[:, None] * HEAD_DIM + dims[None, :]

    # Finite: a row that has seen only masked scores gives exp2(-inf) = 0, not NaN.
    row_max = tl.full((BLOCK_M,), -1.0e30, tl.float32)
    row_sum = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, HEAD_DIM), tl.float32)
    for start in range(0, n_keys, BLOCK_N):
        key_mask = start + keys < n_keys
        k = tl.load(k_ptrs, mask=key_mask[None, :], other=0.0)  # [HEAD_DIM, BLOCK_N]
        scores = dot(q, k, tl.zeros((BLOCK_M, BLOCK_N), tl.float32)) * scale_log2
        scores = tl.where(key_mask[None, :], scores, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        rescale = tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(weights, 1)
        v = tl.load(v_ptrs, mask=key_mask[:, None], other=0.0)
        acc = dot(to_dtype(weights, v.dtype), v, acc * rescale[:, None])
        row_max = new_max
        k_ptrs += BLOCK_N * HEAD_DIM
        v_ptrs += BLOCK_N * HEAD_DIM

    out = to_dtype(acc / row_sum[:, None], out_ptr.dtype.element_ty)
    tl.store(out_ptr + q_offs, out, mask=row_mask[:, None])
    lse = (row_max + tl.log2(row_sum)) * 0.6931471805599453
    tl.store(lse_ptr + head * n_queries + rows, lse, mask=row_mask)


@triton.jit
def _compose(gate_left, value_left, gate_right, value_right):
    return gate_left * gate_right, value_left * gate_right + value_right


@triton.jit
def scan_kernel(gate_ptr, x_ptr, out_ptr, n_steps, stride, BLOCK: tl.constexpr):
    """``out[t] = gate[t] * out[t-1] + x[t]`` along a row, BLOCK steps at a time."""
    row = tl.program_id(0)
    steps = tl.arange(0, BLOCK)
    state = 0.0
    for start in range(0, n_steps, BLOCK):
        offs = row * stride + start + steps
        mask = start + steps < n_steps
        gate = tl.load(gate_ptr + offs, mask=mask, other=1.0)
        x = tl.load(x_ptr + offs, mask=mask, other=0.0)
        decay, value = tl.associative_scan((gate, x), 0, _compose)
        value = value + decay * state
        tl.store(out_ptr + offs, value, mask=mask)
        # The tail's gate of 1 and input of 0 carry the last state to the block's end.
        state = tl.sum(tl.where(steps == BLOCK - 1, value, 0.0), 0)
