"""Backward, the part owned by keys: gradients of k and v.

A program takes one key tile of one key head, goes through the query heads that read it, each with a type and so a list
of its own, and sums in that order: no atomics.
"""

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
    slot_of_step,
    store_rows,
)


@triton.jit
def _differentiate(
    grad_k, grad_v, k, v, q_source, upstream_source, entries, first, last, row_lse2, row_delta, not_later, later,
    position_k, sample_k, tokens_q, padded_q, scale_log2, head, queries, stride_q, stride_upstream,
    D: tl.constexpr, DV: tl.constexpr, D_COLUMNS: tl.constexpr, DV_COLUMNS: tl.constexpr, QUERIES: tl.constexpr,
    PARTIAL: tl.constexpr, CAUSAL: tl.constexpr, EXACT: tl.constexpr, REORDERED: tl.constexpr,
    DESCRIPTORS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Go through the listed query tiles ``first`` to ``last`` of one head; return both sums, of k unscaled.

    Scores are transposed, ``[keys, queries]``.
    """
    steps: tl.constexpr = PLAN_TILE // QUERIES
    for step in tl.range(first * steps, last * steps):
        start = slot_of_step(entries, step, QUERIES)
        slots = start + tl.arange(0, QUERIES)
        q = load_rows(
            q_source, tokens_q, padded_q, start, head, stride_q, queries, QUERIES, D, D_COLUMNS, not PARTIAL, REORDERED,
            DESCRIPTORS,
        )  # fmt: skip
        log_sum = tl.load(row_lse2 + slots)
        scores = dot(k, q.T, None, PRECISION)
        weights = tl.exp2(scores * scale_log2 - log_sum[None, :])
        if PARTIAL:
            bit, position_q, sample_q = load_facts(tokens_q, padded_q, slots, CAUSAL, EXACT)
            seen = is_seen(
                not_later[:, None], later[:, None], bit[None, :], position_q[None, :], position_k[:, None],
                sample_q[None, :], sample_k[:, None], CAUSAL, EXACT,
            )  # fmt: skip
            # A select: the weight of a masked score may have overflowed.
            weights = tl.where(seen, weights, 0.0)
        upstream = load_rows(
            upstream_source, tokens_q, padded_q, start, head, stride_upstream, queries, QUERIES, DV, DV_COLUMNS,
            not PARTIAL, REORDERED, DESCRIPTORS,
        )  # fmt: skip
        grad_v = dot(to_dtype(weights, upstream.dtype), upstream, grad_v, PRECISION)
        delta = tl.load(row_delta + slots)
        grad_weights = dot(v, upstream.T, None, PRECISION)
        grad_scores = weights * (grad_weights - delta[None, :])
        grad_k = dot(to_dtype(grad_scores, q.dtype), q, grad_k, PRECISION)
    return grad_k, grad_v


@triton.jit(do_not_specialize=["queries", "keys", "capacity", "heads_k", "group"])
def attention_key_grad_kernel(
    q, k, v, grad_out, grad_k, grad_v, row_lse2, row_delta, tokens_q, tokens_k, words, head_type, lists, order,
    scale_log2, scale, queries, keys, capacity, heads_k, group, stride_q, stride_k, stride_v,
    D: tl.constexpr, DV: tl.constexpr, D_COLUMNS: tl.constexpr, DV_COLUMNS: tl.constexpr, VECTOR: tl.constexpr,
    SAME_STRIDES: tl.constexpr, CAUSAL: tl.constexpr, EXACT: tl.constexpr, REORDERED: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, DESCRIPTORS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write ``grad_k`` and ``grad_v``, contiguous, of one part of a key tile; longest lists first.

    Args:
        q: Tensor, or a descriptor of it; k, v and grad_out likewise.
        order: Key tiles; each has ``heads_k`` heads of ``PLAN_TILE // KEYS`` programs.
        capacity: Length of a list with its counts.
        group: Query heads of a key head.
        stride_q: From token to token in VECTOR elements; stride_k and stride_v likewise.
        SAME_STRIDES: q lies as grad_out does.
    """
    parts: tl.constexpr = PLAN_TILE // KEYS
    head_k = tl.program_id(0) // parts % heads_k
    tile = tl.load(order + tl.program_id(0) // parts // heads_k)
    start = tile * PLAN_TILE + (tl.program_id(0) % parts) * KEYS
    slots = start + tl.arange(0, KEYS)
    padded_q, padded_k = padded_to_tiles(queries), padded_to_tiles(keys)
    stride_upstream = heads_k * group * DV
    stride_queries = stride_q * VECTOR
    if SAME_STRIDES:
        # One set of offsets for both.
        stride_upstream = stride_queries
    keyed = load_owned_rows(
        k, tokens_k, padded_k, start, head_k, stride_k * VECTOR, keys, KEYS, D, D_COLUMNS, REORDERED, DESCRIPTORS
    )
    valued = load_owned_rows(
        v, tokens_k, padded_k, start, head_k, stride_v * VECTOR, keys, KEYS, DV, DV_COLUMNS, REORDERED,
        DESCRIPTORS,
    )  # fmt: skip
    _, position_k, sample_k = load_facts(tokens_k, padded_k, slots, CAUSAL, EXACT)

    sum_k = tl.zeros([KEYS, D_COLUMNS], tl.float32)
    sum_v = tl.zeros([KEYS, DV_COLUMNS], tl.float32)
    for member in range(group):
        head = head_k * group + member
        kind = tl.load(head_type + head)
        entries, n_partial, n_all = find_list(lists, kind, tile, padded_k // PLAN_TILE, capacity)
        not_later, later = load_words(words, kind, 2, tokens_k, padded_k, slots, CAUSAL)
        lse2_of_head = row_lse2 + head.to(tl.int64) * padded_q
        delta_of_head = row_delta + head.to(tl.int64) * padded_q
        sum_k, sum_v = _differentiate(
            sum_k, sum_v, keyed, valued, q, grad_out, entries, n_partial, n_all, lse2_of_head, delta_of_head, not_later,
            later, position_k, sample_k, tokens_q, padded_q, scale_log2, head, queries, stride_queries, stride_upstream,
            D, DV, D_COLUMNS, DV_COLUMNS, QUERIES, False, CAUSAL, EXACT, REORDERED, DESCRIPTORS, PRECISION,
        )  # fmt: skip
        sum_k, sum_v = _differentiate(
            sum_k, sum_v, keyed, valued, q, grad_out, entries, 0, n_partial, lse2_of_head, delta_of_head, not_later,
            later, position_k, sample_k, tokens_q, padded_q, scale_log2, head, queries, stride_queries, stride_upstream,
            D, DV, D_COLUMNS, DV_COLUMNS, QUERIES, True, CAUSAL, EXACT, REORDERED, DESCRIPTORS, PRECISION,
        )  # fmt: skip
    store_rows(
        grad_k, sum_k * scale, tokens_k, padded_k, start, head_k, heads_k * D, keys, KEYS, D, D_COLUMNS, REORDERED
    )
    store_rows(grad_v, sum_v, tokens_k, padded_k, start, head_k, heads_k * DV, keys, KEYS, DV, DV_COLUMNS, REORDERED)
