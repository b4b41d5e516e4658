"""Device code of the pass over rows of logits in forward: statistics of each row, emissions of each position.

A program takes ROWS frames of one utterance.  Classes come in vectors of VECTOR, the largest power of 2 that divides
their number, the strides and the tensors' alignment: what a thread loads and stores in one 128-bit access.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.ops.ctc.kernels_scaled import split_probability
from lisa_kernels.ops.ctc.kernels_target import class_of, find_frames, find_target


@triton.jit
def rows_of(pid, batch, frames_room, ROWS: tl.constexpr):
    """Utterance and frames of a program, and which of them exist."""
    frame = pid // batch * ROWS + tl.arange(0, ROWS)
    return pid % batch, frame, frame < frames_room


@triton.jit
def load_block(rows, rows_on, first, classes, fill, BLOCK: tl.constexpr):
    """BLOCK classes of each row from ``first`` on, in fp32; ``fill`` beyond the classes and where a row is not on."""
    column = first + tl.arange(0, BLOCK)
    on = rows_on[:, None] & (column < classes)[None, :]
    return tl.load(rows[:, None] + column[None, :], mask=on, other=fill).to(tl.float32)


@triton.jit
def _sums(x, row_max):
    """How many of a row are its maximum, and the sum of exp(x - max) of the others.

    Apart, because on a confident model the sum is 1 and little more: rounded to fp32 it would move all probabilities.
    """
    is_max = x == row_max[:, None]
    e = tl.exp(x - row_max[:, None])
    return tl.sum(is_max.to(tl.float32), 1), tl.sum(tl.where(is_max, 0.0, e), 1)


@triton.jit
def ctc_rows_kernel(
    logits, row_max_out, log_sum_out, emissions_out, exponents_out, targets, logit_lengths, target_lengths, offsets,
    frames_room, batch, labels_room, class_vectors, stride_t_vectors, stride_n_vectors, blank,
    VECTOR: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Maximum and log-sum of each row, and the emission of each position as mantissa and exponent.

    ONE_BLOCK: a row fits into BLOCK.
    """
    n, frame, exists = rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    frames, _ = find_frames(n, logit_lengths, frames_room)
    valid = frame < frames
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR

    if ONE_BLOCK:
        x = load_block(rows, valid, 0, classes, float("-inf"), BLOCK)
        row_max = tl.max(x, 1)
        maxima, others = _sums(x, row_max)
    else:
        row_max = tl.full([ROWS], float("-inf"), tl.float32)
        maxima = tl.zeros([ROWS], tl.float32)
        others = tl.zeros([ROWS], tl.float32)
        for first in range(0, classes, BLOCK):
            x = load_block(rows, valid, first, classes, float("-inf"), BLOCK)
            raised = tl.maximum(row_max, tl.max(x, 1))
            # Not -inf, of which -inf cannot be taken.
            held = tl.maximum(raised, -3.4e38)
            more_maxima, more_others = _sums(x, held)
            others = more_others + tl.where(raised > row_max, (maxima + others) * tl.exp(row_max - held), others)
            maxima = more_maxima + tl.where(raised > row_max, 0.0, maxima)
            row_max = raised
    log_sum = libdevice.log(maxima) + libdevice.log1p(others / maxima)
    # A row without any possible class is a fault like NaN and +inf.
    log_sum = tl.where(tl.abs(row_max) == float("inf"), float("nan"), log_sum)

    saved = frame * batch + n
    tl.store(row_max_out + saved, tl.where(valid, row_max, 0.0), mask=exists)
    tl.store(log_sum_out + saved, tl.where(valid, log_sum, float("inf")), mask=exists)

    at, labels, first_label, _, _ = find_target(n, target_lengths, offsets, labels_room)
    emission_rows = at * frames_room + frame * (labels + 1)
    for first in range(0, labels + 1, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        own = class_of(position, targets + first_label, labels, blank, classes)
        on = valid[:, None] & (position <= labels)[None, :]
        # The row is in the L1 cache; tl.gather of what was read compiles for minutes, to shuffles of all of it.
        chosen = tl.load(rows[:, None] + tl.maximum(own, 0)[None, :], mask=on, other=0.0).to(tl.float32)
        mantissa, exponent = split_probability(chosen, row_max[:, None], log_sum[:, None])
        to = emission_rows[:, None] + position[None, :]
        tl.store(emissions_out + to, mantissa, mask=on)
        tl.store(exponents_out + to, exponent, mask=on)
