"""Device code of the pass over rows of logits: log-sum of each row, search scores of blank, labels and stars."""

import triton
import triton.language as tl

from lisa_kernels.ops.ctc.kernels_rows import load_block, rows_of
from lisa_kernels.ops.ctc.kernels_statistics import log_sum_of, no_classes, take_classes
from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target
from lisa_kernels.ops.ctc_align.kernels_window import scores_of, window


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
    row_max, maxima, others, spread = no_classes(ROWS)
    for first in range(0, BLOCK if ONE_BLOCK else classes, BLOCK):
        x = load_block(rows, valid, first, classes, float("-inf"), BLOCK)
        if HAS_STAR:
            # 1 - p(blank) cancels where blank is nearly certain: so the others are summed on their own.
            x = tl.where((first + tl.arange(0, BLOCK) == blank)[None, :], float("-inf"), x)
        row_max, maxima, others, spread = take_classes(x, row_max, maxima, others, spread, SPREAD=False)
    if HAS_STAR:
        rest_max, rest_log_sum = row_max, log_sum_of(maxima, others)
        row_max, maxima, others, spread = take_classes(of_blank[:, None], row_max, maxima, others, spread, SPREAD=False)
        of_star = (rest_max - row_max) + rest_log_sum - star_penalty
        of_star = tl.where(rest_max > float("-inf"), of_star, float("-inf"))
    # A row without any possible class is a fault like NaN and +inf.
    log_sum = tl.where(tl.abs(row_max) == float("inf"), float("nan"), log_sum_of(maxima, others))
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
