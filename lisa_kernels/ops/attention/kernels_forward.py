"""Forward: a program takes one query tile of one head and goes through its list of key tiles.

Full tiles first, then partial ones, in two loops: a branch inside of one would keep Triton from pipelining it.  Online
softmax (Milakov and Gimelshein, arXiv 1805.02867) in base 2: ``score * scale_log2 - peak`` is one FMA.
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
    rows_of_slots,
    slot_of_step,
    store_rows,
)

# Finite: a row that has met masked scores alone, -inf, gives exp2(-inf) = 0 and not NaN.
_LOWEST_PEAK = tl.constexpr(-1.0e30)


@triton.jit
def _attend(
    acc, total, peak, q, k_source, v_source, entries, first, last, not_later, later, position_q, sample_q, tokens_k,
    padded_k, scale_log2, head_k, keys, stride_k, stride_v,
    D: tl.constexpr, DV: tl.constexpr, D_COLUMNS: tl.constexpr, DV_COLUMNS: tl.constexpr, KEYS: tl.constexpr,
    PARTIAL: tl.constexpr, CAUSAL: tl.constexpr, EXACT: tl.constexpr, REORDERED: tl.constexpr,
    DESCRIPTORS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Go through the listed tiles ``first`` to ``last``; return weighted values, their weights' sum, highest score."""
    steps: tl.constexpr = PLAN_TILE // KEYS
    for step in tl.range(first * steps, last * steps):
        start = slot_of_step(entries, step, KEYS)
        k = load_rows(
            k_source, tokens_k, padded_k, start, head_k, stride_k, keys, KEYS, D, D_COLUMNS, not PARTIAL, REORDERED,
            DESCRIPTORS,
        )  # fmt: skip
        scores = dot(q, k.T, None, PRECISION)
        if PARTIAL:
            bit, position_k, sample_k = load_facts(tokens_k, padded_k, start + tl.arange(0, KEYS), CAUSAL, EXACT)
            seen = is_seen(
                not_later[:, None], later[:, None], bit[None, :], position_q[:, None], position_k[None, :],
                sample_q[:, None], sample_k[None, :], CAUSAL, EXACT,
            )  # fmt: skip
            scores = tl.where(seen, scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1) * scale_log2)
        weights = tl.exp2(scores * scale_log2 - new_peak[:, None])
        rescale = tl.exp2(peak - new_peak)
        step_total = tl.sum(weights, 1)
        acc = acc * rescale[:, None]
        v = load_rows(
            v_source, tokens_k, padded_k, start, head_k, stride_v, keys, KEYS, DV, DV_COLUMNS, not PARTIAL, REORDERED,
            DESCRIPTORS,
        )  # fmt: skip
        acc = dot(to_dtype(weights, v.dtype), v, acc, PRECISION)
        total = total * rescale + step_total
        peak = new_peak
    return acc, total, peak


@triton.jit(do_not_specialize=["queries", "keys", "capacity", "heads", "group"])
def attention_forward_kernel(
    q, k, v, out, lse2, tokens_q, tokens_k, words, head_type, lists, order, scale_log2, queries, keys, capacity, heads,
    group, stride_q, stride_k, stride_v,
    D: tl.constexpr, DV: tl.constexpr, D_COLUMNS: tl.constexpr, DV_COLUMNS: tl.constexpr, VECTOR: tl.constexpr,
    SAME_STRIDES: tl.constexpr, CAUSAL: tl.constexpr, EXACT: tl.constexpr, REORDERED: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, DESCRIPTORS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write ``out`` and ``lse2`` of one part of a query tile; programs in the plan's order, longest list first.

    Args:
        q: Tensor, or a descriptor of it; k and v likewise.
        order: ``tile * heads + head`` of each program, ``PLAN_TILE // QUERIES`` programs an entry.
        capacity: Length of a list with its counts.
        group: Query heads of a key head.
        stride_q: From token to token in VECTOR elements; stride_k and stride_v likewise.
    """
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
    not_later, later = load_words(words, kind, 0, tokens_q, padded_q, slots, CAUSAL)
    _, position_q, sample_q = load_facts(tokens_q, padded_q, slots, CAUSAL, EXACT)

    peak = tl.full([QUERIES], _LOWEST_PEAK, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, DV_COLUMNS], tl.float32)
    acc, total, peak = _attend(
        acc, total, peak, queried, k, v, entries, n_partial, n_all, not_later, later, position_q, sample_q, tokens_k,
        padded_k, scale_log2, head_k, keys, stride_k * VECTOR, stride_v * VECTOR, D, DV, D_COLUMNS, DV_COLUMNS, KEYS,
        False, CAUSAL, EXACT, REORDERED, DESCRIPTORS, PRECISION,
    )  # fmt: skip
    acc, total, peak = _attend(
        acc, total, peak, queried, k, v, entries, 0, n_partial, not_later, later, position_q, sample_q, tokens_k,
        padded_k, scale_log2, head_k, keys, stride_k * VECTOR, stride_v * VECTOR, D, DV, D_COLUMNS, DV_COLUMNS, KEYS,
        True, CAUSAL, EXACT, REORDERED, DESCRIPTORS, PRECISION,
    )  # fmt: skip

    # Nothing seen: 0, and +inf makes every weight of the backward pass 0.
    dead = total == 0.0
    weight = tl.where(dead, 0.0, 1.0 / tl.where(dead, 1.0, total))
    rows = rows_of_slots(tokens_q, padded_q, start, QUERIES, REORDERED)
    log_sum = tl.where(dead, float("inf"), peak + tl.log2(total))
    tl.store(lse2 + head.to(tl.int64) * queries + rows, log_sum, mask=slots < queries)
    store_rows(
        out, acc * weight[:, None], tokens_q, padded_q, start, head, heads * DV, queries, QUERIES, DV, DV_COLUMNS,
        REORDERED,
    )  # fmt: skip
