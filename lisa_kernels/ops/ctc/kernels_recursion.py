"""Device code of the recursion over frames: one program for each utterance and direction.

Backward in time the recursion is that of the reversed target on the reversed frames.  So both directions run the same
code in their own coordinates: blank j, then label j, counted from the direction's start; only what they load and store
is addressed from the other end.  A state's value is mantissa * 2^exponent (``kernels_scaled.py``).

States are kept in rows of S+1 blanks and S labels; row k of a direction holds them after k frames.  A step loads the
row before it, the labels also shifted by one, and stores its own: what a shift between threads would cost in Triton,
which has none, a barrier and the L1 cache do.  Every ``chunk``-th row is a checkpoint; rows between are kept for one
chunk at a time and recomputed from its checkpoint when the other direction asks for them.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.ops.ctc.kernels_scaled import ZERO_EXPONENT, add_scaled, normalise, pow2_or_0
from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target, has_bad_label

# Rows of a direction beside chunk and checkpoints: the row of the meeting, and two that take turns after it.
EXTRA_ROWS = tl.constexpr(3)
# Exponent of a product that is 0, below that of any other.
_NO_PRODUCT = tl.constexpr(-(2**30))
# A posterior is at most 1 and a product of mantissas below 2^6: higher exponents come only from values held at the
# lowest exponent.  The gradient is inexact there, but finite.
_HIGHEST_POSTERIOR = tl.constexpr(60)
_LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _row_of(k, chunk, SAVE: tl.constexpr):
    """Where the states after k frames are kept: chunk - 1 rows, then checkpoints; two that take turns without SAVE."""
    return tl.where(k % chunk == 0, chunk - 1 + k // chunk, k % chunk - 1) if SAVE else k % 2


@triton.jit
def _load_states(mantissas, exponents, at, on):
    """A block of states; 0 where ``on`` is not."""
    return tl.load(mantissas + at, mask=on, other=0.0), tl.load(exponents + at, mask=on, other=ZERO_EXPONENT)


@triton.jit
def _moved(j, row, mantissas, exponents, classes, labels, mirrored):
    """What enters blank j and label j from the states at ``row``, before the frame's emission."""
    inside = j < labels
    blank, blank_e = _load_states(mantissas, exponents, row + j, j <= labels)
    own, own_e = _load_states(mantissas, exponents, row + labels + 1 + j, inside)
    near, near_e = _load_states(mantissas, exponents, row + labels + j, (j > 0) & (j <= labels))
    position = _position(j, labels, mirrored)
    pair = inside & (j > 0)
    own_class = tl.load(classes + position, mask=pair, other=0)
    near_class = tl.load(classes + position + tl.where(mirrored, 1, -1), mask=pair, other=0)

    to_blank, to_blank_e = add_scaled(blank, blank_e, near, near_e)
    skips = own_class != near_class
    entering, entering_e = tl.where(skips, to_blank, blank), tl.where(skips, to_blank_e, blank_e)
    to_label, to_label_e = add_scaled(entering, entering_e, own, own_e)
    return to_blank, to_blank_e, to_label, to_label_e


@triton.jit
def _position(j, labels, mirrored):
    """Position in the target of label j of a direction; position 0 is the blank."""
    return tl.where(mirrored, labels - j, j + 1)


@triton.jit
def _step(
    k, row, next_row, mantissas, exponents, emissions, emission_exponents, classes, frames, labels, mirrored,
    other_mantissas, other_exponents, other_row, total_exponent, joint,
    POSTERIOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From the states after k frames at ``row`` to those after k + 1 at ``next_row``.

    With POSTERIOR the frame's joint probabilities with the other direction's states at ``other_row``, relative to
    2**total_exponent, go to ``joint``: those of all blanks at position 0, then each label's.
    """
    frame = tl.where(mirrored, frames - 1 - k, k).to(tl.int64)
    emission = frame * (labels + 1)
    blank_emission = tl.load(emissions + emission)
    blank_emission_e = tl.load(emission_exponents + emission)
    in_blanks = tl.zeros([BLOCK], tl.float32)
    for first in range(0, labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        inside = j < labels
        to_blank, to_blank_e, to_label, to_label_e = _moved(j, row, mantissas, exponents, classes, labels, mirrored)
        position = _position(j, labels, mirrored)
        if POSTERIOR:
            # The other direction counts from the other end.
            blank, blank_e = _load_states(other_mantissas, other_exponents, other_row + labels - j, j <= labels)
            label, label_e = _load_states(other_mantissas, other_exponents, other_row + 2 * labels - j, inside)
            blank_e = tl.minimum(blank_e + (to_blank_e - total_exponent), _HIGHEST_POSTERIOR)
            label_e = tl.minimum(label_e + (to_label_e - total_exponent), _HIGHEST_POSTERIOR)
            in_blanks += to_blank * blank * pow2_or_0(blank_e)
            tl.store(joint + emission + position, to_label * label * pow2_or_0(label_e), mask=inside)
        own, own_e = _load_states(emissions, emission_exponents, emission + position, inside)
        blank, blank_e = normalise(to_blank * blank_emission, to_blank_e + blank_emission_e)
        label, label_e = normalise(to_label * own, to_label_e + own_e)
        tl.store(mantissas + next_row + j, blank, mask=j <= labels)
        tl.store(exponents + next_row + j, blank_e, mask=j <= labels)
        tl.store(mantissas + next_row + labels + 1 + j, label, mask=inside)
        tl.store(exponents + next_row + labels + 1 + j, label_e, mask=inside)
    if POSTERIOR:
        tl.store(joint + emission, tl.sum(in_blanks, 0))
    # The next step's threads load what other threads stored.
    tl.debug_barrier()


@triton.jit
def ctc_meet_kernel(
    mantissas, exponents, emissions, emission_exponents, position_classes, logit_lengths, target_lengths, offsets,
    frames_room, labels_room, chunk, rows,
    SAVE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk each direction to the middle of its utterance; leaves its rows, the last also as the row of the meeting."""
    pid = tl.program_id(0).to(tl.int64)
    n, mirrored = pid // 2, pid % 2 == 1
    at, labels, _, _, label_fault = find_target(n, target_lengths, offsets, labels_room)
    frames, frame_fault = find_frames(n, logit_lengths, frames_room)
    if label_fault | frame_fault:
        return
    width = 2 * labels.to(tl.int64) + 2
    states = 4 * at * rows + tl.where(mirrored, rows * width, 0)
    mantissas += states
    exponents += states
    emissions += at * frames_room
    emission_exponents += at * frames_room
    position_classes += at
    half = tl.where(mirrored, frames - frames // 2, frames // 2)

    # Before its first frame a path is as if in the blank at its end of the target.
    start = _row_of(half * 0, chunk, SAVE) * width
    for first in range(0, 2 * labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        tl.store(mantissas + start + j, tl.where(j == 0, 1.0, 0.0), mask=j < width - 1)
        tl.store(exponents + start + j, tl.where(j == 0, 0, ZERO_EXPONENT), mask=j < width - 1)
    tl.debug_barrier()
    for k in range(half):
        _step(
            k, _row_of(k, chunk, SAVE) * width, _row_of(k + 1, chunk, SAVE) * width, mantissas, exponents, emissions,
            emission_exponents, position_classes, frames, labels, mirrored, mantissas, exponents, start, 0, emissions,
            POSTERIOR=False, BLOCK=BLOCK,
        )  # fmt: skip
    # A row of its own, since the other direction will recompute what stands in the chunk.
    last, meeting = _row_of(half, chunk, SAVE) * width, (rows - EXTRA_ROWS) * width
    for first in range(0, 2 * labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        value, exponent = _load_states(mantissas, exponents, last + j, j < width - 1)
        tl.store(mantissas + meeting + j, value, mask=j < width - 1)
        tl.store(exponents + meeting + j, exponent, mask=j < width - 1)


@triton.jit
def _total(mantissas, exponents, meeting, other_meeting, classes, labels, BLOCK: tl.constexpr):
    """Total probability: the forward states moved to the next frame, times the backward states at that frame."""
    mantissa = tl.zeros([BLOCK], tl.float32)
    exponent = tl.full([BLOCK], _NO_PRODUCT, tl.int32)
    for first in range(0, labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        to_blank, to_blank_e, to_label, to_label_e = _moved(j, meeting, mantissas, exponents, classes, labels, j < 0)
        blank, blank_e = _load_states(mantissas, exponents, other_meeting + labels - j, j <= labels)
        label, label_e = _load_states(mantissas, exponents, other_meeting + 2 * labels - j, j < labels)
        blank, label = blank * to_blank, label * to_label
        blank_e = tl.where(blank == 0.0, _NO_PRODUCT, blank_e + to_blank_e)
        label_e = tl.where(label == 0.0, _NO_PRODUCT, label_e + to_label_e)
        joint, joint_e = add_scaled(blank, blank_e, label, label_e)
        mantissa, exponent = add_scaled(mantissa, exponent, joint, joint_e)
    largest = tl.max(exponent, 0)
    return tl.sum(mantissa * pow2_or_0(exponent - largest), 0), largest


@triton.jit
def ctc_part_kernel(
    loss_out, row_max, log_sum, joint, mantissas, exponents, emissions, emission_exponents, position_classes,
    logit_lengths, target_lengths, offsets, frames_room, batch, labels_room, chunk, rows,
    ZERO_INFINITY: tl.constexpr, SAVE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Loss where the directions meet; with SAVE walk each on through the other's half and leave joint probabilities.

    Rows of utterances without an alignment get a log-sum of +inf, those of faulty ones NaN.
    """
    pid = tl.program_id(0).to(tl.int64)
    n, mirrored = pid // 2, pid % 2 == 1
    at, labels, _, _, label_fault = find_target(n, target_lengths, offsets, labels_room)
    frames, frame_fault = find_frames(n, logit_lengths, frames_room)
    classes = position_classes + at
    width = 2 * labels.to(tl.int64) + 2
    states = 4 * at * rows
    meeting = (rows - EXTRA_ROWS) * width

    fault = label_fault | frame_fault
    total = tl.full([], 0.0, tl.float32)
    total_exponent = tl.full([], 0, tl.int32)
    if not fault:
        total, total_exponent = _total(
            mantissas + states, exponents + states, meeting, rows * width + meeting, classes, labels, BLOCK
        )
        # A NaN or +inf logit in any frame has made the total NaN.
        fault = has_bad_label(classes, labels, BLOCK) | (total != total)
    feasible = (total > 0.0) & (fault == 0)

    if not mirrored:
        bits = libdevice.log2(tl.where(feasible, total, 1.0)).to(tl.float64) + total_exponent
        loss = (bits * -_LN2).to(tl.float32)
        loss = tl.where(feasible, loss, 0.0 if ZERO_INFINITY else float("inf"))
        tl.store(loss_out + n, tl.where(fault, float("nan"), loss))
        if not feasible:
            for first in range(0, frames, BLOCK):
                frame = first + tl.arange(0, BLOCK).to(tl.int64)
                filler = tl.where(fault, float("nan"), float("inf"))
                tl.store(log_sum + frame * batch + n, tl.zeros([BLOCK], tl.float32) + filler, mask=frame < frames)
                if fault:
                    tl.store(row_max + frame * batch + n, tl.zeros([BLOCK], tl.float32), mask=frame < frames)

    if SAVE:  # noqa: SIM102 -- a constant and a value: Triton joins no condition of both
        if feasible:
            own = states + tl.where(mirrored, rows * width, 0)
            other = states + tl.where(mirrored, 0, rows * width)
            emissions += at * frames_room
            emission_exponents += at * frames_room
            joint += at * frames_room
            half = tl.where(mirrored, frames - frames // 2, frames // 2)
            other_half = frames - half
            row = meeting
            turns = (rows - EXTRA_ROWS + 1) * width
            chunk_kept = tl.maximum(other_half - 1, 0) // chunk
            for k in range(half, frames):
                asked = frames - k
                wanted_chunk = asked // chunk
                if (asked % chunk != 0) & (wanted_chunk != chunk_kept):
                    for again in range(wanted_chunk * chunk, wanted_chunk * chunk + chunk - 1):
                        _step(
                            again, _row_of(again, chunk, SAVE) * width, _row_of(again + 1, chunk, SAVE) * width,
                            mantissas + other, exponents + other, emissions, emission_exponents, classes, frames,
                            labels, mirrored == 0, mantissas, exponents, row, 0, joint, POSTERIOR=False, BLOCK=BLOCK,
                        )  # fmt: skip
                    chunk_kept = wanted_chunk
                next_row = turns + (k % 2) * width
                _step(
                    k, row, next_row, mantissas + own, exponents + own, emissions, emission_exponents, classes, frames,
                    labels, mirrored, mantissas + other, exponents + other, _row_of(asked, chunk, SAVE) * width,
                    total_exponent, joint, POSTERIOR=True, BLOCK=BLOCK,
                )  # fmt: skip
                row = next_row
