"""Device code of the dense passes over rows of logits: statistics and emissions, occupancies, gradient.

A program takes ROWS frames of one utterance.  Classes come in vectors of VECTOR, the largest power of 2 that divides
their number, both strides and the tensors' alignment: what a thread loads and stores in one 128-bit access.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.core.tl_math import to_dtype
from lisa_kernels.ops.ctc.kernels_scaled import LOG2E, exp2_centred, pow2_or_0, split_probability
from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target, sum_of_class


@triton.jit
def _rows_of(pid, batch, frames_room, ROWS: tl.constexpr):
    """Utterance and frames of a program, and which of them exist."""
    frame = pid // batch * ROWS + tl.arange(0, ROWS)
    return pid % batch, frame, frame < frames_room


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
    logits, row_max_out, log_sum_out, emissions_out, exponents_out, position_classes, logit_lengths, target_lengths,
    offsets, frames_room, batch, labels_room, class_vectors, stride_t_vectors, stride_n_vectors,
    VECTOR: tl.constexpr, ONE_BLOCK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Maximum and log-sum of each row, and the emission of each position as mantissa and exponent.

    ONE_BLOCK: a row fits into BLOCK.
    """
    n, frame, exists = _rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    frames, _ = find_frames(n, logit_lengths, frames_room)
    valid = frame < frames
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    column = tl.arange(0, BLOCK)

    if ONE_BLOCK:
        read = valid[:, None] & (column < classes)[None, :]
        x = tl.load(rows[:, None] + column[None, :], mask=read, other=float("-inf")).to(tl.float32)
        row_max = tl.max(x, 1)
        maxima, others = _sums(x, row_max)
    else:
        row_max = tl.full([ROWS], float("-inf"), tl.float32)
        maxima = tl.zeros([ROWS], tl.float32)
        others = tl.zeros([ROWS], tl.float32)
        for first in range(0, classes, BLOCK):
            read = valid[:, None] & (first + column < classes)[None, :]
            x = tl.load(rows[:, None] + (first + column)[None, :], mask=read, other=float("-inf")).to(tl.float32)
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

    at, labels, _, _, _ = find_target(n, target_lengths, offsets, labels_room)
    emission_rows = at * frames_room + frame * (labels + 1)
    for first in range(0, labels + 1, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        inside = position <= labels
        own = tl.maximum(tl.load(position_classes + at + position, mask=inside, other=0), 0)
        on = valid[:, None] & inside[None, :]
        # The row is in the L1 cache; tl.gather of what was read compiles for minutes, to shuffles of all of it.
        chosen = tl.load(rows[:, None] + own[None, :], mask=on, other=0.0).to(tl.float32)
        mantissa, exponent = split_probability(chosen, row_max[:, None], log_sum[:, None])
        to = emission_rows[:, None] + position[None, :]
        tl.store(emissions_out + to, mantissa, mask=on)
        tl.store(exponents_out + to, exponent, mask=on)


@triton.jit
def ctc_occupancy_kernel(
    joint, occupancy_out, log_sum, position_classes, following, count, logit_lengths, target_lengths, offsets,
    frames_room, batch, labels_room, target_count, classes,
    BY_CLASS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Posteriors of each frame, divided by their own sum, in place or summed for each class; 0 where there are none.

    The division removes the drift of the recursion, which would grow with T: 3.7e-5 instead of 4e-6 of the gradient at
    T = 500 on trained-like logits.
    """
    n, frame, exists = _rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    at, labels, start, room, _ = find_target(n, target_lengths, offsets, labels_room)
    if offsets is not None:
        # What lengths leave of concatenated targets belongs to the last.
        room = tl.where(n == batch - 1, target_count - start, room)
    frames, _ = find_frames(n, logit_lengths, frames_room)
    active = (frame < frames) & (tl.load(log_sum + frame * batch + n, mask=exists, other=float("inf")) < float("inf"))
    rows = joint + at * frames_room + frame * (labels + 1)

    total = tl.zeros([ROWS], tl.float32)
    for first in range(0, labels + 1, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        on = active[:, None] & (position <= labels)[None, :]
        total += tl.sum(tl.load(rows[:, None] + position[None, :], mask=on, other=0.0), 1)
    total = tl.where(total > 0.0, total, 1.0)

    if BY_CLASS:
        out = occupancy_out + (n * frames_room + frame) * classes
        column = tl.arange(0, BLOCK)
        for first in range(0, classes, BLOCK):
            on = exists[:, None] & (first + column < classes)[None, :]
            tl.store(out[:, None] + (first + column)[None, :], tl.zeros([ROWS, BLOCK], tl.float32), mask=on)
        # Another thread may have written the 0.
        tl.debug_barrier()
        for first in range(0, labels + 1, POSITIONS):
            position = first + tl.arange(0, POSITIONS)
            own_count = tl.load(count + at + position, mask=position <= labels, other=0)
            own = tl.load(position_classes + at + position, mask=own_count > 0, other=0)
            summed = sum_of_class(rows, active, position, own_count, following + at)
            on = active[:, None] & (own_count > 0)[None, :]
            tl.store(out[:, None] + own[None, :], tl.div_rn(summed, total[:, None] + 0.0 * summed), mask=on)
    else:
        for first in range(0, labels + 1, POSITIONS):
            position = first + tl.arange(0, POSITIONS)
            inside = (position <= labels)[None, :]
            value = tl.load(rows[:, None] + position[None, :], mask=active[:, None] & inside, other=0.0)
            divided = tl.div_rn(value, total[:, None] + 0.0 * value)
            tl.store(rows[:, None] + position[None, :], divided, mask=exists[:, None] & inside)
        # Behind the rows lies the rest of the room that the shapes alone give: a share of it for each frame.
        rest = room - labels
        tail = joint + at * frames_room + (labels + 1).to(tl.int64) * frames_room + frame * rest
        for first in range(0, rest, POSITIONS):
            position = first + tl.arange(0, POSITIONS)
            on = exists[:, None] & (position < rest)[None, :]
            tl.store(tail[:, None] + position[None, :], tl.zeros([ROWS, POSITIONS], tl.float32), mask=on)


@triton.jit
def _softmax(x, row_max, scale):
    return tl.exp(x - row_max) * scale


@triton.jit
def ctc_grad_kernel(
    grad_loss, logits, row_max, log_sum, occupancy, position_classes, following, count, target_lengths, offsets,
    grad_out, frames_room, batch, labels_room, class_vectors, stride_t_vectors, stride_n_vectors,
    grad_stride_t_vectors, grad_stride_n_vectors,
    VECTOR: tl.constexpr, BY_CLASS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """``grad_loss * (softmax - occupancy)``; rows without a gradient are written 0, or NaN, and not read."""
    n, frame, exists = _rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    classes = class_vectors * VECTOR
    saved = frame * batch + n
    log_sums = tl.load(log_sum + saved, mask=exists, other=float("inf"))
    maxima = tl.load(row_max + saved, mask=exists, other=0.0)
    weight = tl.load(grad_loss + n)
    active = log_sums < float("inf")
    # exp(-log_sum), to half an ulp near 1, where softmax and occupancy cancel; ``ex2.approx`` has 2 ulps.
    bits = tl.where(active, log_sums, 0.0) * -LOG2E
    whole = tl.floor(bits + 0.5)
    scale = exp2_centred(bits - whole) * pow2_or_0(whole.to(tl.int32))
    filler = tl.where(log_sums != log_sums, log_sums, 0.0)
    rows = logits + frame * stride_t_vectors * VECTOR + n * stride_n_vectors * VECTOR
    grad_rows = grad_out + frame * grad_stride_t_vectors * VECTOR + n * grad_stride_n_vectors * VECTOR
    column = tl.arange(0, BLOCK)

    for first in range(0, classes, BLOCK):
        inside = (first + column < classes)[None, :]
        on = active[:, None] & inside
        x = tl.load(rows[:, None] + (first + column)[None, :], mask=on, other=0.0).to(tl.float32)
        grad = _softmax(x, maxima[:, None], scale[:, None])
        if BY_CLASS:
            taken = occupancy + (n * frames_room + frame) * classes
            grad -= tl.load(taken[:, None] + (first + column)[None, :], mask=on, other=0.0)
        # Times the upstream gradient last: where softmax and occupancy cancel, their roundings are all that is left.
        grad = tl.where(active[:, None], weight * grad, filler[:, None])
        to = grad_rows[:, None] + (first + column)[None, :]
        tl.store(to, to_dtype(grad, grad_out.dtype.element_ty), mask=exists[:, None] & inside)

    if not BY_CLASS:
        # Each class of the target is written once more, by another thread perhaps.
        tl.debug_barrier()
        at, labels, _, _, _ = find_target(n, target_lengths, offsets, labels_room)
        taken = occupancy + at * frames_room + frame * (labels + 1)
        for first in range(0, labels + 1, POSITIONS):
            position = first + tl.arange(0, POSITIONS)
            own_count = tl.load(count + at + position, mask=position <= labels, other=0)
            own = tl.load(position_classes + at + position, mask=own_count > 0, other=0)
            on = active[:, None] & (own_count > 0)[None, :]
            chosen = tl.load(rows[:, None] + own[None, :], mask=on, other=0.0).to(tl.float32)
            summed = sum_of_class(taken, active, position, own_count, following + at)
            grad = weight * (_softmax(chosen, maxima[:, None], scale[:, None]) - summed)
            tl.store(grad_rows[:, None] + own[None, :], to_dtype(grad, grad_out.dtype.element_ty), mask=on)
