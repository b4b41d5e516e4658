"""Device code of the pass over rows of logits in backward: each element read once and written once.

An element is read by the thread that writes it, and before it does: the gradient may lie over the logits.
"""

import triton
import triton.language as tl

from lisa_kernels.core.tl_math import to_dtype
from lisa_kernels.ops.ctc.kernels_rows import load_block, rows_of
from lisa_kernels.ops.ctc.kernels_scaled import LOG2E, exp2_centred, pow2_or_0
from lisa_kernels.ops.ctc.kernels_target import find_target, sum_of_class


@triton.jit
def _exp_of_negative(log_sum):
    """exp(-log_sum), to half an ulp near 1, where softmax and occupancy cancel; ``ex2.approx`` has 2 ulps."""
    bits = log_sum * -LOG2E
    whole = tl.floor(bits + 0.5)
    return exp2_centred(bits - whole) * pow2_or_0(whole.to(tl.int32))


@triton.jit
def _load_statistics(n, frame, exists, row_max, log_sum, batch):
    """Maximum and log-sum of each row, and exp(-log_sum); NaN where the gradient is to be NaN."""
    maxima = tl.load(row_max + frame * batch + n, mask=exists, other=0.0)
    log_sums = tl.load(log_sum + frame * batch + n, mask=exists, other=float("inf"))
    scale = _exp_of_negative(tl.where(log_sums < float("inf"), log_sums, 0.0))
    return maxima, log_sums, tl.where(log_sums == log_sums, scale, float("nan"))


@triton.jit
def _softmax(rows, maxima, log_sums, scale, first, classes, BLOCK: tl.constexpr):
    """A block of logits, and their softmax; rows without a gradient are not read."""
    x = load_block(rows, log_sums < float("inf"), first, classes, 0.0, BLOCK)
    return x, tl.exp(x - maxima[:, None]) * scale[:, None]


@triton.jit
def _store_gradient(
    n, frame, exists, x, p, maxima, log_sums, other_p, other_log_sums, first, weight, entropy_weight,
    consistency_weight, row_entropy, star_rows, occupancy, following, first_position, target_lengths, offsets,
    grad_rows, frames_room, batch, labels_room, classes, blank,
    STAR: tl.constexpr, ENTROPY: tl.constexpr, CONSISTENCY: tl.constexpr, BY_CLASS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Store a block of one utterance's gradient: of the loss, and of the terms asked for.

    By position, each class looks up where it stands: to write a row first and the classes of the target once more
    asked the L2 cache for 8 % more bytes at C = 1000, S = 80, and for 65 % more sectors.
    """
    column = first + tl.arange(0, BLOCK)
    inside = column < classes
    active = log_sums < float("inf")
    saved = frame * batch + n
    if BY_CLASS:
        taken = load_block(occupancy + (n * frames_room + frame) * classes, active, first, classes, 0.0, BLOCK)
    else:
        at, labels, _, _, _ = find_target(n, target_lengths, offsets, labels_room)
        chain = tl.load(first_position + n * classes + column, mask=inside, other=-1).to(tl.int32)
        posteriors = occupancy + at * frames_room + tl.min(frame, 0) * (labels + 1)
        row = (labels + 1) * tl.arange(0, frame.shape[0])
        taken = sum_of_class(posteriors, row, active, chain, following + at)
    difference = p - taken
    if STAR:
        rest_max = tl.load(star_rows + saved, mask=exists, other=0.0)
        share = tl.load(star_rows + frames_room * batch + saved, mask=exists, other=float("-inf"))
        starred = tl.exp((x - rest_max[:, None]) + share[:, None])
        difference -= tl.where((column == blank)[None, :], 0.0, starred)
    # Times the upstream gradient last: where softmax and occupancy cancel, their roundings are all that is left.
    grad = weight * difference
    if ENTROPY:
        entropies = tl.load(row_entropy + saved, mask=exists, other=0.0)
        surprise = (x - maxima[:, None]) + (entropies - log_sums)[:, None]
        grad -= entropy_weight * tl.where(p == 0.0, 0.0, p * surprise)
    if CONSISTENCY:
        apart = tl.where((other_log_sums == float("inf"))[:, None], 0.0, p - other_p)
        grad += consistency_weight * apart
    # Whatever the upstream gradient is.
    grad = to_dtype(tl.where((log_sums == float("inf"))[:, None], 0.0, grad), grad_rows.dtype.element_ty)
    tl.store(grad_rows[:, None] + column[None, :], grad, mask=exists[:, None] & inside[None, :])


@triton.jit
def ctc_grad_kernel(
    grad_loss, grad_entropy, grad_consistency, logits, row_max, log_sum, row_entropy, star_rows, occupancy, following,
    first_position, target_lengths, offsets, grad_out, frames_room, batch, labels_room, class_vectors,
    stride_t_vectors, stride_n_vectors, grad_stride_t_vectors, grad_stride_n_vectors, blank,
    VECTOR: tl.constexpr, BY_CLASS: tl.constexpr, STAR: tl.constexpr, ENTROPY: tl.constexpr,
    CONSISTENCY: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of loss, entropy and consistency; rows without one are written 0, or NaN, and not read.

    CONSISTENCY: a program takes both views of an utterance, which are utterances n and n + N/2.
    """
    n, frame, exists = rows_of(tl.program_id(0).to(tl.int64), batch // 2 if CONSISTENCY else batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    grad_rows = grad_out + frame * grad_stride_t_vectors * VECTOR + n * grad_stride_n_vectors * VECTOR
    maxima, log_sums, scale = _load_statistics(n, frame, exists, row_max, log_sum, batch)
    weight = tl.load(grad_loss + n)
    entropy_weight = tl.load(grad_entropy + n) if ENTROPY else 0.0
    consistency_weight = tl.load(grad_consistency + n) if CONSISTENCY else 0.0
    if CONSISTENCY:
        other_n = n + batch // 2
        other_rows = logits + frame * stride_t_vectors * VECTOR + other_n * stride_n_vectors * VECTOR
        other_grad_rows = grad_out + frame * grad_stride_t_vectors * VECTOR + other_n * grad_stride_n_vectors * VECTOR
        other_maxima, other_log_sums, other_scale = _load_statistics(other_n, frame, exists, row_max, log_sum, batch)
        other_weight = tl.load(grad_loss + other_n)
        other_entropy_weight = tl.load(grad_entropy + other_n) if ENTROPY else 0.0
        other_consistency_weight = tl.load(grad_consistency + other_n)

    for first in range(0, classes, BLOCK):
        x, p = _softmax(rows, maxima, log_sums, scale, first, classes, BLOCK)
        other_p, others = None, None
        if CONSISTENCY:
            y, other_p = _softmax(other_rows, other_maxima, other_log_sums, other_scale, first, classes, BLOCK)
            others = other_log_sums
            _store_gradient(
                other_n, frame, exists, y, other_p, other_maxima, other_log_sums, p, log_sums, first, other_weight,
                other_entropy_weight, other_consistency_weight, row_entropy, star_rows, occupancy, following,
                first_position, target_lengths, offsets, other_grad_rows, frames_room, batch, labels_room, classes,
                blank,
                STAR, ENTROPY, CONSISTENCY, BY_CLASS, BLOCK,
            )  # fmt: skip
        _store_gradient(
            n, frame, exists, x, p, maxima, log_sums, other_p, others, first, weight, entropy_weight,
            consistency_weight, row_entropy, star_rows, occupancy, following, first_position, target_lengths, offsets,
            grad_rows, frames_room, batch, labels_room, classes, blank,
            STAR, ENTROPY, CONSISTENCY, BY_CLASS, BLOCK,
        )  # fmt: skip
