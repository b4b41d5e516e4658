"""Device code of the pass over rows of logits in backward: each element read once and written once, in any place."""

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
def ctc_grad_kernel(
    grad_loss, logits, row_max, log_sum, occupancy, following, first_position, target_lengths, offsets, grad_out,
    frames_room, batch, labels_room, class_vectors, stride_t_vectors, stride_n_vectors, grad_stride_t_vectors,
    grad_stride_n_vectors,
    VECTOR: tl.constexpr, BY_CLASS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``grad_loss * (softmax - occupancy)``; rows without a gradient are written 0, or NaN, and not read.

    By position, each class looks up where it stands: to write a row first and the classes of the target once more
    asked the L2 cache for 8 % more bytes at C = 1000, S = 80, and for 65 % more sectors.
    """
    n, frame, exists = rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    saved = frame * batch + n
    log_sums = tl.load(log_sum + saved, mask=exists, other=float("inf"))
    maxima = tl.load(row_max + saved, mask=exists, other=0.0)
    weight = tl.load(grad_loss + n)
    active = log_sums < float("inf")
    # NaN where a row's gradient is NaN: so it becomes, whatever else is 0.
    scale = tl.where(log_sums == log_sums, _exp_of_negative(tl.where(active, log_sums, 0.0)), float("nan"))
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    grad_rows = grad_out + frame * grad_stride_t_vectors * VECTOR + n * grad_stride_n_vectors * VECTOR
    at, labels, _, _, _ = find_target(n, target_lengths, offsets, labels_room)
    posteriors = occupancy + at * frames_room + tl.min(frame, 0) * (labels + 1)

    for first in range(0, classes, BLOCK):
        column = first + tl.arange(0, BLOCK)
        inside = column < classes
        x = load_block(rows, active, first, classes, 0.0, BLOCK)
        if BY_CLASS:
            taken = load_block(occupancy + (n * frames_room + frame) * classes, active, first, classes, 0.0, BLOCK)
        else:
            chain = tl.load(first_position + n * classes + column, mask=inside, other=-1).to(tl.int32)
            row = (labels + 1) * tl.arange(0, ROWS)
            taken = sum_of_class(posteriors, row, active, chain, following + at)
        # Times the upstream gradient last: where softmax and occupancy cancel, their roundings are all that is left.
        grad = weight * (tl.exp(x - maxima[:, None]) * scale[:, None] - taken)
        grad = tl.where((log_sums == float("inf"))[:, None], 0.0, grad)
        grad = to_dtype(grad, grad_out.dtype.element_ty)
        tl.store(grad_rows[:, None] + column[None, :], grad, mask=exists[:, None] & inside[None, :])
