"""Device code of the pass over rows of logits: log-sum of each row, search scores of blank, labels and stars."""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.ops.ctc.kernels_rows import load_block, rows_of
from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target
from lisa_kernels.ops.ctc_align.kernels_window import scores_of, window


@triton.jit
def _sums(x, row_max):
    """How many of a row are its maximum, and the sum of exp(x - max) of the others.

    Apart, because on a confident model the sum is 1 and little more: rounded to fp32 its log would lose its digits.
    """
    is_max = x == row_max[:, None]
    e = tl.exp(x - row_max[:, None])
    return tl.sum(is_max.to(tl.float32), 1), tl.sum(tl.where(is_max, 0.0, e), 1)


@triton.jit
def _load(rows, valid, first, classes, left_out, LEAVE_OUT: tl.constexpr, BLOCK: tl.constexpr):
    x = load_block(rows, valid, first, classes, float("-inf"), BLOCK)
    if LEAVE_OUT:
        x = tl.where((first + tl.arange(0, BLOCK) == left_out)[None, :], float("-inf"), x)
    return x


@triton.jit
def _statistics(
    rows, valid, classes, left_out,
    LEAVE_OUT: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Maximum and log-sum of each row, with LEAVE_OUT without one class; -inf and 0 where all are -inf."""
    if ONE_BLOCK:
        x = _load(rows, valid, 0, classes, left_out, LEAVE_OUT, BLOCK)
        row_max = tl.max(x, 1)
        maxima, others = _sums(x, tl.maximum(row_max, -3.4e38))
    else:
        row_max = tl.full([ROWS], float("-inf"), tl.float32)
        maxima = tl.zeros([ROWS], tl.float32)
        others = tl.zeros([ROWS], tl.float32)
        for first in range(0, classes, BLOCK):
            x = _load(rows, valid, first, classes, left_out, LEAVE_OUT, BLOCK)
            raised = tl.maximum(row_max, tl.max(x, 1))
            # Not -inf, of which -inf cannot be taken.
            held = tl.maximum(raised, -3.4e38)
            more_maxima, more_others = _sums(x, held)
            others = more_others + tl.where(raised > row_max, (maxima + others) * tl.exp(row_max - held), others)
            maxima = more_maxima + tl.where(raised > row_max, 0.0, maxima)
            row_max = raised
    maxima = tl.maximum(maxima, 1.0)
    return row_max, libdevice.log(maxima) + libdevice.log1p(others / maxima)


@triton.jit
def ctc_scores_kernel(
    logits, scores_out, log_sum_out, targets, logit_lengths, target_lengths, offsets, log_priors, frames_room, batch,
    labels_room, class_vectors, stride_t_vectors, stride_n_vectors, blank, star, star_penalty, band,
    VECTOR: tl.constexpr, HAS_STAR: tl.constexpr, BANDED: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Log-sum of each row ``[N, T]``, NaN without a softmax; search scores x - max - prior of blank and window.

    The log-sum is the same for all positions of a frame and stays out of the search.  ONE_BLOCK: a row fits into BLOCK.
    """
    n, frame, _ = rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    frames, _ = find_frames(n, logit_lengths, frames_room)
    valid = frame < frames
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    of_blank = tl.load(rows + blank, mask=valid, other=0.0).to(tl.float32)
    if HAS_STAR:
        rest_max, rest_sum = _statistics(
            rows, valid, classes, blank, LEAVE_OUT=True, ONE_BLOCK=ONE_BLOCK, ROWS=ROWS, BLOCK=BLOCK
        )
        row_max = tl.maximum(rest_max, of_blank)
        no_rest = rest_max == float("-inf")
        # Of the other classes together, which 1 - p(blank) would cancel; NaN stays NaN.
        of_rest = tl.where(no_rest, rest_sum + float("-inf"), (rest_max - row_max) + rest_sum)
        high, low = tl.maximum(of_rest, of_blank - row_max), tl.minimum(of_rest, of_blank - row_max)
        log_sum = high + libdevice.log1p(tl.exp(low - high)) + 0.0 * rest_sum
        of_star = of_rest - star_penalty
        row_max = tl.where(of_blank == of_blank, row_max, float("nan"))
    else:
        row_max, log_sum = _statistics(
            rows, valid, classes, blank, LEAVE_OUT=False, ONE_BLOCK=ONE_BLOCK, ROWS=ROWS, BLOCK=BLOCK
        )
    log_sum = tl.where(tl.abs(row_max) < float("inf"), log_sum, float("nan"))
    tl.store(log_sum_out + n * frames_room + frame, log_sum, mask=valid)

    at, labels, first_label, _, _ = find_target(n, target_lengths, offsets, labels_room)
    base, stride = scores_of(n, at, labels, frames_room, band, BANDED)
    to = scores_out + base + frame * stride
    of_blank -= row_max
    if log_priors is not None:
        of_blank -= tl.load(log_priors + blank)
    tl.store(to, of_blank, mask=valid)
    lowest, _ = window(frame, frames, labels, band, BANDED)
    for first in range(0, stride - 1, POSITIONS):
        slot = first + tl.arange(0, POSITIONS)
        if BANDED:
            position = lowest[:, None] + slot[None, :]
        else:
            position = slot[None, :]
        inside = (slot < stride - 1)[None, :] & (position < labels)
        label = tl.load(targets + first_label + position, mask=inside, other=0)
        # Labels out of range are found later.
        own = tl.where((label >= 0) & (label < classes), label, 0)
        on = valid[:, None] & inside
        # The row is in the L1 cache.
        score = tl.load(rows[:, None] + own, mask=on, other=0.0).to(tl.float32) - row_max[:, None]
        if log_priors is not None:
            score -= tl.load(log_priors + own, mask=inside, other=0.0)
        if HAS_STAR:
            score = tl.where(label == star, of_star[:, None], score)
        tl.store(to[:, None] + 1 + slot[None, :], score, mask=on)
