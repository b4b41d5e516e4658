"""Backward, the part owned by queries: row sums that both gradients need, then the gradient of q."""

import triton
import triton.language as tl

from lisa_kernels.core.tl_math import dot, to_dtype
from lisa_kernels.ops.attention.kernels import (
    PLAN_TILE,
    find_list,
    is_seen,
    load_facts,
    load_owned_rows,
    load_rows,
    load_words,
    padded_to_tiles,
    rows_of_slots,
    slot_of_step,
    store_rows,
)

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["queries", "heads"])
def attention_delta_kernel(
    out, grad_out, lse2, grad_lse2, tokens_q, row_lse2, row_delta, queries, heads,
    DV: tl.constexpr, DV_COLUMNS: tl.constexpr, REORDERED: tl.constexpr, QUERIES: tl.constexpr,
):  # fmt: skip
    """Write ``row_lse2`` and ``row_delta``, ``[heads, padded]`` by slot, of ``QUERIES`` slots of one head.

    Slots past the last token get +inf and 0: the other kernels read rows without a mask and weigh them 0.
    """
    head = tl.program_id(0) % heads
    start = tl.program_id(0) // heads * QUERIES
    slots = start + tl.arange(0, QUERIES)
    padded = padded_to_tiles(queries)
    mine = load_rows(
        out, tokens_q, padded, start, head, heads * DV, queries, QUERIES, DV, DV_COLUMNS, False, REORDERED, False
    )
    upstream = load_owned_rows(
        grad_out, tokens_q, padded, start, head, heads * DV, queries, QUERIES, DV, DV_COLUMNS, REORDERED, False
    )
    real = slots < queries
    rows = head.to(tl.int64) * queries + rows_of_slots(tokens_q, padded, start, QUERIES, REORDERED)
    delta = tl.sum(mine.to(tl.float32) * upstream.to(tl.float32), 1)
    delta -= _LOG2_E * tl.load(grad_lse2 + rows, mask=real, other=0.0)
    at = head.to(tl.int64) * padded + slots
    tl.store(row_lse2 + at, tl.load(lse2 + rows, mask=real, other=float("inf")))
    tl.store(row_delta + at, tl.where(real, delta, 0.0))


@triton.jit
def _differentiate(
    grad, q, upstream, k_source, v_source, entries, first, last, log_sum, delta, not_later, later, position_q, sample_q,
    tokens_k, padded_k, scale_log2, head_k, keys, stride_k, stride_v,
    D: tl.constexpr, DV: tl.constexpr, D_COLUMNS: tl.constexpr, DV_COLUMNS: tl.constexpr, KEYS: tl.constexpr,
    PARTIAL: tl.constexpr, CAUSAL: tl.constexpr, EXACT: tl.constexpr, REORDERED: tl.constexpr,
    DESCRIPTORS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Go through the listed tiles ``first`` to ``last``; return the summed gradient of the unscaled queries."""
    steps: tl.constexpr = PLAN_TILE // KEYS
    for step in tl.range(first * steps, last * steps):
        start = slot_of_step(entries, step, KEYS)
        k = load_rows(
            k_source, tokens_k, padded_k, start, head_k, stride_k, keys, KEYS, D, D_COLUMNS, not PARTIAL, REORDERED,
            DESCRIPTORS,
        )  # fmt: skip
        v = load_rows(
            v_source, tokens_k, padded_k, start, head_k, stride_v, keys, KEYS, DV, DV_COLUMNS, not PARTIAL, REORDERED,
            DESCRIPTORS,
        )  # fmt: skip
        scores = dot(q, k.T, None, PRECISION)
        weights = tl.exp2(scores * scale_log2 - log_sum[:, None])
        if PARTIAL:
            bit, position_k, sample_k = load_facts(tokens_k, padded_k, start + tl.arange(0, KEYS), CAUSAL, EXACT)
            seen = is_seen(
                not_later[:, None], later[:, None], bit[None, :], position_q[:, None], position_k[None, :],
                sample_q[:, None], sample_k[None, :], CAUSAL, EXACT,
            )  # fmt: skip
            # A select: the weight of a masked score may have overflowed.
            weights = tl.where(seen, weights, 0.0)
        grad_weights = dot(upstream, v.T, None, PRECISION)
        grad_scores = weights * (grad_weights - delta[:, None])
        grad = dot(to_dtype(grad_scores, k.dtype), k, grad, PRECISION)
    return grad


@triton.jit(do_not_specialize=["queries", "keys", "capacity", "heads", "group"])
def attention_query_grad_kernel(
    q, k, v, grad_out, grad_q, row_lse2, row_delta, tokens_q, tokens_k, words, head_type, lists, order, scale_log2,
    scale, queries, keys, capacity, heads, group, stride_q, stride_k, stride_v,
    D: tl.constexpr, DV: tl.constexpr, D_COLUMNS: tl.constexpr, DV_COLUMNS: tl.constexpr, VECTOR: tl.constexpr,
    SAME_STRIDES: tl.constexpr, CAUSAL: tl.constexpr, EXACT: tl.constexpr, REORDERED: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, DESCRIPTORS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write ``grad_q``, contiguous, of one part of a query tile; arguments as in ``attention_forward_kernel``."""
    if SAME_STRIDES:
        # One set of offsets for both.
        stride_v = stride_k
    parts: tl.constexpr = PLAN_TILE // QUERIES
    entry = tl.load(order + tl.program_id(0) // parts)
    tile, head = entry // heads, entry % heads
    head_k = head // group
    start = tile * PLAN_TILE + (tl.program_id(0) % parts) * QUERIES
    slots = start + tl.arange(0, QUERIES)
    padded_q, padded_k = padded_to_tiles(queries), padded_to_tiles(keys)
    kind = tl.load(head_type + head)
    entries, n_partial, n_all = find_list(lists, kind, tile, padded_q // PLAN_TILE, capacity)

    queried = load_owned_rows(
        q, tokens_q, padded_q, start, head, stride_q * VECTOR, queries, QUERIES, D, D_COLUMNS, REORDERED,
        DESCRIPTORS,
    )  # fmt: skip
    upstream = load_owned_rows(
        grad_out, tokens_q, padded_q, start, head, heads * DV, queries, QUERIES, DV, DV_COLUMNS, REORDERED,
        DESCRIPTORS,
    )  # fmt: skip
    log_sum = tl.load(row_lse2 + head.to(tl.int64) * padded_q + slots)
    delta = tl.load(row_delta + head.to(tl.int64) * padded_q + slots)
    not_later, later = load_words(words, kind, 0, tokens_q, padded_q, slots, CAUSAL)
    _, position_q, sample_q = load_facts(tokens_q, padded_q, slots, CAUSAL, EXACT)

    grad = tl.zeros([QUERIES, D_COLUMNS], tl.float32)
    grad = _differentiate(
        grad, queried, upstream, k, v, entries, n_partial, n_all, log_sum, delta, not_later, later, position_q,
        sample_q, tokens_k, padded_k, scale_log2, head_k, keys, stride_k * VECTOR, stride_v * VECTOR, D, DV, D_COLUMNS,
        DV_COLUMNS, KEYS, False, CAUSAL, EXACT, REORDERED, DESCRIPTORS, PRECISION,
    )  # fmt: skip
    grad = _differentiate(
        grad, queried, upstream, k, v, entries, 0, n_partial, log_sum, delta, not_later, later, position_q,
        sample_q, tokens_k, padded_k, scale_log2, head_k, keys, stride_k * VECTOR, stride_v * VECTOR, D, DV, D_COLUMNS,
        DV_COLUMNS, KEYS, True, CAUSAL, EXACT, REORDERED, DESCRIPTORS, PRECISION,
    )  # fmt: skip
    store_rows(
        grad_q, grad * scale, tokens_q, padded_q, start, head, heads * D, queries, QUERIES, D, D_COLUMNS, REORDERED
    )
