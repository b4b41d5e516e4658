"""Device code of the pass over rows of logits in forward: statistics of each row, emissions of each position.

A program takes ROWS frames of one utterance, or of both views of one (CONSISTENCY).  Classes come in vectors of VECTOR,
the largest power of 2 that divides their number, the strides and the tensors' alignment: what a thread loads and stores
in one 128-bit access.
"""

import triton
import triton.language as tl

from lisa_kernels.ops.ctc.kernels_scaled import split_probability
from lisa_kernels.ops.ctc.kernels_statistics import log_sum_of, no_classes, take_classes, take_divergence
from lisa_kernels.ops.ctc.kernels_target import class_of, find_frames, find_target, is_star


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
def _load_classes(rows, valid, first, classes, blank, BLOCK: tl.constexpr, STAR: tl.constexpr):
    """A block of classes, -inf beyond them; with STAR also for blank, which is taken at last."""
    x = load_block(rows, valid, first, classes, float("-inf"), BLOCK)
    return tl.where((first + tl.arange(0, BLOCK) == blank)[None, :], float("-inf"), x) if STAR else x


@triton.jit
def _rest_log_sum(rest_max, maxima, others):
    """Log-sum of the classes but blank; 0 where none is possible, which the maximum of -inf tells."""
    return tl.where(rest_max > float("-inf"), log_sum_of(maxima, others), 0.0)


@triton.jit
def _store_row(
    n, frame, valid, rows, row_max, maxima, others, spread, rest_max, rest_log_sum, row_max_out, log_sum_out,
    row_entropy_out, star_rows_out, emissions_out, exponents_out, log_priors, targets, target_lengths, offsets,
    frames_room, batch, labels_room, classes, blank, star, star_penalty,
    ENTROPY: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Store what backward and recursion need of each row, from its statistics; return its log-sum."""
    exists = frame < frames_room
    log_sum = log_sum_of(maxima, others)
    # A row without any possible class is a fault like NaN and +inf.
    log_sum = tl.where(tl.abs(row_max) == float("inf"), float("nan"), log_sum)
    saved = frame * batch + n
    tl.store(row_max_out + saved, tl.where(valid, row_max, 0.0), mask=exists)
    tl.store(log_sum_out + saved, tl.where(valid, log_sum, float("inf")), mask=exists)
    if ENTROPY:
        tl.store(row_entropy_out + saved, tl.where(valid, log_sum - spread / (maxima + others), 0.0), mask=exists)
    if star is not None:
        # Until the posteriors are known the second is the log-sum alone.
        rest = star_rows_out + saved
        tl.store(rest, tl.where(valid & (rest_max > float("-inf")), rest_max, 0.0), mask=exists)
        tl.store(rest + frames_room * batch, tl.where(valid, rest_log_sum, 0.0), mask=exists)
        star_m, star_e = split_probability(rest_max, row_max, log_sum - rest_log_sum, star_penalty)

    at, labels, first_label, _, _ = find_target(n, target_lengths, offsets, labels_room)
    emission_rows = at * frames_room + frame * (labels + 1)
    for first in range(0, labels + 1, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        own = class_of(position, targets + first_label, labels, blank, classes)
        on = valid[:, None] & (position <= labels)[None, :]
        # The row is in the L1 cache; tl.gather of what was read compiles for minutes, to shuffles of all of it.
        chosen = tl.load(rows[:, None] + tl.maximum(own, 0)[None, :], mask=on, other=0.0).to(tl.float32)
        prior = None
        if log_priors is not None:
            prior = tl.load(log_priors + tl.maximum(own, 0))[None, :]
        mantissa, exponent = split_probability(chosen, row_max[:, None], log_sum[:, None], prior)
        if star is not None:
            starred = is_star(position, targets + first_label, labels, star)[None, :]
            mantissa = tl.where(starred, star_m[:, None], mantissa)
            exponent = tl.where(starred, star_e[:, None], exponent)
        to = emission_rows[:, None] + position[None, :]
        tl.store(emissions_out + to, mantissa, mask=on)
        tl.store(exponents_out + to, exponent, mask=on)
    return log_sum


@triton.jit
def ctc_rows_kernel(
    logits, row_max_out, log_sum_out, row_entropy_out, row_divergence_out, star_rows_out, emissions_out, exponents_out,
    log_priors, targets, logit_lengths, target_lengths, offsets, frames_room, batch, labels_room, class_vectors,
    stride_t_vectors, stride_n_vectors, blank, star, star_penalty,
    VECTOR: tl.constexpr, ONE_BLOCK: tl.constexpr, ENTROPY: tl.constexpr, CONSISTENCY: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Maximum and log-sum of each row, the emission of each position as mantissa and exponent, and the terms of rows.

    ONE_BLOCK: a row fits into BLOCK.  ``log_priors``, ``star`` and ``star_penalty`` are None without these options.
    """
    STAR: tl.constexpr = star is not None
    n, frame, _ = rows_of(tl.program_id(0).to(tl.int64), batch // 2 if CONSISTENCY else batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    frames, _ = find_frames(n, logit_lengths, frames_room)
    valid = frame < frames
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    row_max, maxima, others, spread = no_classes(ROWS)
    if CONSISTENCY:
        other_n = n + batch // 2
        other_frames, _ = find_frames(other_n, logit_lengths, frames_room)
        other_valid = frame < other_frames
        other_rows = logits + frame * stride_t_vectors * VECTOR + other_n * stride_n_vectors * VECTOR
        other_max, other_maxima, other_others, other_spread = no_classes(ROWS)
        divergence = tl.zeros([ROWS], tl.float32)
        other_divergence = tl.zeros([ROWS], tl.float32)

    for first in range(0, BLOCK if ONE_BLOCK else classes, BLOCK):
        x = _load_classes(rows, valid, first, classes, blank, BLOCK, STAR)
        before, before_sum = row_max, maxima + others
        row_max, maxima, others, spread = take_classes(x, row_max, maxima, others, spread, ENTROPY)
        if CONSISTENCY:
            y = _load_classes(other_rows, other_valid, first, classes, blank, BLOCK, STAR)
            other_before, other_sum = other_max, other_maxima + other_others
            other_max, other_maxima, other_others, other_spread = take_classes(
                y, other_max, other_maxima, other_others, other_spread, ENTROPY
            )
            divergence = take_divergence(divergence, x, y, before, row_max, other_before, other_sum, other_max)
            other_divergence = take_divergence(
                other_divergence, y, x, other_before, other_max, before, before_sum, row_max
            )

    rest_max, rest_log_sum = None, None
    other_rest_max, other_rest_log_sum = None, None
    if STAR:
        # 1 - p_blank cancels where blank is nearly certain: so the others were summed on their own.
        rest_max, rest_log_sum = row_max, _rest_log_sum(row_max, maxima, others)
        x = tl.load(rows + blank, mask=valid, other=0.0).to(tl.float32)[:, None]
        before, before_sum = row_max, maxima + others
        row_max, maxima, others, spread = take_classes(x, row_max, maxima, others, spread, ENTROPY)
        if CONSISTENCY:
            other_rest_max = other_max
            other_rest_log_sum = _rest_log_sum(other_max, other_maxima, other_others)
            y = tl.load(other_rows + blank, mask=other_valid, other=0.0).to(tl.float32)[:, None]
            other_before, other_sum = other_max, other_maxima + other_others
            other_max, other_maxima, other_others, other_spread = take_classes(
                y, other_max, other_maxima, other_others, other_spread, ENTROPY
            )
            divergence = take_divergence(divergence, x, y, before, row_max, other_before, other_sum, other_max)
            other_divergence = take_divergence(
                other_divergence, y, x, other_before, other_max, before, before_sum, row_max
            )

    log_sum = _store_row(
        n, frame, valid, rows, row_max, maxima, others, spread, rest_max, rest_log_sum, row_max_out, log_sum_out,
        row_entropy_out, star_rows_out, emissions_out, exponents_out, log_priors, targets, target_lengths, offsets,
        frames_room, batch, labels_room, classes, blank, star, star_penalty, ENTROPY, POSITIONS,
    )  # fmt: skip
    if CONSISTENCY:
        other_log_sum = _store_row(
            other_n, frame, other_valid, other_rows, other_max, other_maxima, other_others, other_spread,
            other_rest_max, other_rest_log_sum, row_max_out, log_sum_out, row_entropy_out, star_rows_out,
            emissions_out, exponents_out, log_priors, targets, target_lengths, offsets, frames_room, batch,
            labels_room, classes, blank, star, star_penalty, ENTROPY, POSITIONS,
        )  # fmt: skip
        both = valid & other_valid
        to = row_divergence_out + frame * batch
        divergence = divergence / (other_maxima + other_others) - (other_log_sum - log_sum)
        other_divergence = other_divergence / (maxima + others) - (log_sum - other_log_sum)
        tl.store(to + n, tl.where(both, divergence, 0.0), mask=frame < frames_room)
        tl.store(to + other_n, tl.where(both, other_divergence, 0.0), mask=frame < frames_room)
