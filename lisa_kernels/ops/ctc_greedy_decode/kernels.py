"""Device code: the best class of each frame and its log-probability; then frames to labels, utterance by utterance."""

import triton
import triton.language as tl

from lisa_kernels.ops.ctc.kernels_rows import load_block, rows_of
from lisa_kernels.ops.ctc.kernels_statistics import log_sum_of, no_classes, take_classes
from lisa_kernels.ops.ctc.kernels_target import find_frames

_NO_CLASS = tl.constexpr(-1)
_NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def ctc_best_kernel(
    logits, best_out, log_prob_out, logit_lengths, frames_room, batch, class_vectors, stride_t_vectors,
    stride_n_vectors,
    VECTOR: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Best class of each frame within its utterance's length, and its log-probability; ``[N, T]``.

    A program takes ROWS frames of one utterance.  Classes come in vectors of VECTOR.  ONE_BLOCK: a row fits into BLOCK.
    """
    n, frame, _ = rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    frames, _ = find_frames(n, logit_lengths, frames_room)
    valid = frame < frames
    classes = class_vectors * VECTOR
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    row_max, maxima, others, spread = no_classes(ROWS)
    best = tl.full([ROWS], _NOWHERE, tl.int32)
    for first in range(0, BLOCK if ONE_BLOCK else classes, BLOCK):
        x = load_block(rows, valid, first, classes, float("-inf"), BLOCK)
        before = row_max
        # A maximum passes over NaN, sums do not.
        row_max, maxima, others, spread = take_classes(x, row_max, maxima, others, spread, SPREAD=False)
        column = first + tl.arange(0, BLOCK)
        place = tl.min(tl.where(x == row_max[:, None], column[None, :], _NOWHERE), 1)
        # The earlier block keeps what is equal.
        best = tl.where(row_max > before, place, best)
    log_prob = tl.where(tl.abs(row_max) == float("inf"), float("nan"), -log_sum_of(maxima, others))
    to = n * frames_room + frame
    tl.store(best_out + to, tl.where(best == _NOWHERE, 0, best), mask=valid)
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
    unclear = tl.full([], 0, tl.int32)
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
        # NaN stays out of the sum: threads would hold different ones, by the order of their operands.
        scores = tl.load(log_prob + row + frame, mask=valid, other=0.0).to(tl.float64)
        score += tl.sum(tl.where(scores == scores, scores, 0.0), 0)
        unclear |= tl.max((scores != scores).to(tl.int32), 0)
    tl.store(lengths_out + n, count.to(tl.int64))
    tl.store(scores_out + n, tl.where(fault | (unclear != 0), float("nan"), score.to(tl.float32)))
    nothing = tl.full([BLOCK], -1, tl.int64)
    for first in range(count, frames_room, BLOCK):
        position = first + tl.arange(0, BLOCK)
        inside = position < frames_room
        tl.store(ids_out + row + position, nothing, mask=inside)
        tl.store(starts_out + row + position, nothing, mask=inside)
        tl.store(ends_out + row + position, nothing, mask=inside)
