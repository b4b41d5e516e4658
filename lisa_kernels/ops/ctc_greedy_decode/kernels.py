"""Device code: the best class of each frame and its log-probability; then frames to labels, utterance by utterance."""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.ops.ctc.kernels_target import find_frames

_NO_CLASS = tl.constexpr(-1)
_BEYOND = tl.constexpr(2**31 - 1)


@triton.jit
def _best_of(x, first, BLOCK: tl.constexpr):
    """Largest value of each row, NaN aside, and the first class that has it; the block begins with class ``first``."""
    seen = tl.where(x == x, x, float("-inf"))
    largest = tl.max(seen, 1)
    column = first + tl.arange(0, BLOCK)
    # -inf is what classes beyond the last hold, and what a row without any other is best at in class 0.
    has = (seen == largest[:, None]) & (largest > float("-inf"))[:, None]
    return largest, tl.min(tl.where(has, column[None, :], _BEYOND), 1)


@triton.jit
def _sums(x, row_max):
    """How many of a row are its maximum, and the sum of exp(x - max) of the others.

    Apart, because on a confident model the sum is 1 and little more: rounded to fp32 its log would lose its digits.
    """
    is_max = x == row_max[:, None]
    e = tl.exp(x - row_max[:, None])
    return tl.sum(is_max.to(tl.float32), 1), tl.sum(tl.where(is_max, 0.0, e), 1)


@triton.jit
def ctc_best_kernel(
    logits, best_out, log_prob_out, logit_lengths, frames_room, batch, class_vectors, stride_t_vectors,
    stride_n_vectors,
    VECTOR: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Best class of each frame within its utterance's length, and its log-probability; ``[N, T]``.

    A program takes ROWS frames of one utterance.  Classes come in vectors of VECTOR.  ONE_BLOCK: a row fits into BLOCK.
    """
    pid = tl.program_id(0).to(tl.int64)
    n = pid % batch
    frame = pid // batch * ROWS + tl.arange(0, ROWS)
    frames, _ = find_frames(n, logit_lengths, frames_room)
    valid = frame < frames
    classes = class_vectors * VECTOR
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    column = tl.arange(0, BLOCK)

    if ONE_BLOCK:
        read = valid[:, None] & (column < classes)[None, :]
        x = tl.load(rows[:, None] + column[None, :], mask=read, other=float("-inf")).to(tl.float32)
        row_max, best = _best_of(x, 0, BLOCK)
        maxima, others = _sums(x, row_max)
    else:
        row_max = tl.full([ROWS], float("-inf"), tl.float32)
        best = tl.full([ROWS], _BEYOND, tl.int32)
        maxima = tl.zeros([ROWS], tl.float32)
        others = tl.zeros([ROWS], tl.float32)
        for first in range(0, classes, BLOCK):
            read = valid[:, None] & (first + column < classes)[None, :]
            x = tl.load(rows[:, None] + (first + column)[None, :], mask=read, other=float("-inf")).to(tl.float32)
            largest, place = _best_of(x, first, BLOCK)
            # The earlier block keeps what is equal.
            best = tl.where(largest > row_max, place, best)
            raised = tl.maximum(row_max, largest)
            # Not -inf, of which -inf cannot be taken.
            held = tl.maximum(raised, -3.4e38)
            more_maxima, more_others = _sums(x, held)
            others = more_others + tl.where(raised > row_max, (maxima + others) * tl.exp(row_max - held), others)
            maxima = more_maxima + tl.where(raised > row_max, 0.0, maxima)
            row_max = raised
    log_prob = -(libdevice.log(maxima) + libdevice.log1p(others / maxima))
    log_prob = tl.where(tl.abs(row_max) == float("inf"), float("nan"), log_prob)
    to = n * frames_room + frame
    tl.store(best_out + to, tl.where(best == _BEYOND, 0, best), mask=valid)
    tl.store(log_prob_out + to, log_prob, mask=valid)


@triton.jit
def ctc_collapse_kernel(
    best, log_prob, logit_lengths, ids_out, lengths_out, starts_out, ends_out, scores_out, frames_room, blank,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Labels, frames and score of one utterance: a scan over its frames, BLOCK at a time."""
    n = tl.program_id(0).to(tl.int64)
    frames, fault = find_frames(n, logit_lengths, frames_room)
    row = n * frames_room
    count = tl.full([], 0, tl.int32)
    score = tl.full([], 0.0, tl.float64)
    for first in range(0, frames, BLOCK):
        frame = first + tl.arange(0, BLOCK)
        valid = frame < frames
        own = tl.load(best + row + frame, mask=valid, other=_NO_CLASS)
        before = tl.load(best + row + frame - 1, mask=valid & (frame > 0), other=_NO_CLASS)
        after = tl.load(best + row + frame + 1, mask=frame + 1 < frames, other=_NO_CLASS)
        label = valid & (own != blank)
        begins, finishes = label & (own != before), label & (own != after)
        begun = count + tl.cumsum(begins.to(tl.int32), 0)
        # A label's last frame finds it begun.
        to = row + begun - 1
        tl.store(ids_out + to, own.to(tl.int64), mask=begins)
        tl.store(starts_out + to, frame.to(tl.int64), mask=begins)
        tl.store(ends_out + to, frame.to(tl.int64) + 1, mask=finishes)
        count += tl.sum(begins.to(tl.int32), 0)
        score += tl.sum(tl.load(log_prob + row + frame, mask=valid, other=0.0).to(tl.float64), 0)
    tl.store(lengths_out + n, count.to(tl.int64))
    tl.store(scores_out + n, tl.where(fault, float("nan"), score.to(tl.float32)))
    nothing = tl.full([BLOCK], -1, tl.int64)
    for first in range(count, frames_room, BLOCK):
        position = first + tl.arange(0, BLOCK)
        inside = position < frames_room
        tl.store(ids_out + row + position, nothing, mask=inside)
        tl.store(starts_out + row + position, nothing, mask=inside)
        tl.store(ends_out + row + position, nothing, mask=inside)
