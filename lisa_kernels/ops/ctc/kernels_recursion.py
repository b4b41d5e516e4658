"""Device code of the recursion over frames: one program for each utterance and direction.

The directions meet in the middle of an utterance, where its total probability follows; each then goes on through the
other's half and multiplies its states with those that the other left there.  Row k of a direction holds its states
after k frames.  Every ``chunk``-th row is a checkpoint; rows between are kept for one chunk at a time and recomputed
from its checkpoint when the other direction asks for them.  ``kernels_states.py`` has the steps.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.ops.ctc.kernels_scaled import ZERO_EXPONENT, add_scaled, pow2_or_0
from lisa_kernels.ops.ctc.kernels_states import (
    can_skip,
    enter_from_row,
    load_emissions,
    load_states,
    step_in_memory,
    step_in_registers,
    store_states,
)
from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target, has_bad_label

# Rows of a direction beside chunk and checkpoints: the row of the meeting, and two that take turns after it.
EXTRA_ROWS = tl.constexpr(3)
# Exponent of a product that is 0, below that of any other.
_NO_PRODUCT = tl.constexpr(-(2**30))
_LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _row_of(k, chunk, SAVE: tl.constexpr):
    """Where the states after k frames are kept: chunk - 1 rows, then checkpoints; two that take turns without SAVE."""
    return tl.where(k % chunk == 0, chunk - 1 + k // chunk, k % chunk - 1) if SAVE else k % 2


@triton.jit
def _walk(
    first, last, width, chunk, mantissas, exponents, emissions, emission_exponents, labels_at, frames, labels, mirrored,
    SAVE: tl.constexpr, RESIDENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Go from the row of ``first`` frames to that of ``last``, leaving each."""
    start = _row_of(first, chunk, SAVE) * width
    if RESIDENT:
        j = tl.arange(0, BLOCK)
        skips = can_skip(j, labels_at, labels, mirrored)
        blank, blank_e = load_states(mantissas, exponents, start + j, j <= labels)
        label, label_e = load_states(mantissas, exponents, start + labels + 1 + j, j < labels)
        blank_own, blank_own_e, own, own_e = load_emissions(
            first, j, emissions, emission_exponents, frames, labels, mirrored
        )
        for k in range(first, last):
            # Of the frame after this one: a load from the L2 cache takes as long as a step.
            next_blank, next_blank_e, next_own, next_own_e = load_emissions(
                k + 1, j, emissions, emission_exponents, frames, labels, mirrored
            )
            blank, blank_e, label, label_e = step_in_registers(
                k, j, blank, blank_e, label, label_e, skips, blank_own, blank_own_e, own, own_e, frames, labels,
                mirrored, mantissas, exponents, start, 0, emissions, POSTERIOR=False,
            )  # fmt: skip
            blank_own, blank_own_e, own, own_e = next_blank, next_blank_e, next_own, next_own_e
            next_row = _row_of(k + 1, chunk, SAVE) * width
            store_states(mantissas, exponents, next_row, j, labels, blank, blank_e, label, label_e)
        # Other threads will load what these stored.
        tl.debug_barrier()
    else:
        for k in range(first, last):
            step_in_memory(
                k, _row_of(k, chunk, SAVE) * width, _row_of(k + 1, chunk, SAVE) * width, mantissas, exponents,
                emissions, emission_exponents, labels_at, frames, labels, mirrored, mantissas, exponents, start, 0,
                emissions, POSTERIOR=False, BLOCK=BLOCK,
            )  # fmt: skip


@triton.jit
def ctc_meet_kernel(
    mantissas, exponents, emissions, emission_exponents, targets, logit_lengths, target_lengths, offsets, frames_room,
    labels_room, chunk, rows,
    SAVE: tl.constexpr, RESIDENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk each direction to the middle of its utterance; leaves its rows, the last also as the row of the meeting."""
    pid = tl.program_id(0).to(tl.int64)
    n, mirrored = pid // 2, pid % 2 == 1
    at, labels, first_label, _, label_fault = find_target(n, target_lengths, offsets, labels_room)
    frames, frame_fault = find_frames(n, logit_lengths, frames_room)
    if label_fault | frame_fault:
        return
    width = 2 * labels.to(tl.int64) + 2
    states = 4 * at * rows + tl.where(mirrored, rows * width, 0)
    mantissas += states
    exponents += states
    emissions += at * frames_room
    emission_exponents += at * frames_room
    half = tl.where(mirrored, frames - frames // 2, frames // 2)

    # Before its first frame a path is as if in the blank at its end of the target.
    start = _row_of(half * 0, chunk, SAVE) * width
    for first in range(0, 2 * labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        tl.store(mantissas + start + j, tl.where(j == 0, 1.0, 0.0), mask=j < width - 1)
        tl.store(exponents + start + j, tl.where(j == 0, 0, ZERO_EXPONENT), mask=j < width - 1)
    tl.debug_barrier()
    _walk(
        half * 0, half, width, chunk, mantissas, exponents, emissions, emission_exponents, targets + first_label,
        frames, labels, mirrored, SAVE=SAVE, RESIDENT=RESIDENT, BLOCK=BLOCK,
    )  # fmt: skip
    # A row of its own, since the other direction will recompute what stands in the chunk.
    last, meeting = _row_of(half, chunk, SAVE) * width, (rows - EXTRA_ROWS) * width
    for first in range(0, 2 * labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        value, exponent = load_states(mantissas, exponents, last + j, j < width - 1)
        tl.store(mantissas + meeting + j, value, mask=j < width - 1)
        tl.store(exponents + meeting + j, exponent, mask=j < width - 1)


@triton.jit
def _total(mantissas, exponents, meeting, other_meeting, labels_at, labels, BLOCK: tl.constexpr):
    """Total probability: the forward states moved to the next frame, times the backward states at that frame."""
    mantissa = tl.zeros([BLOCK], tl.float32)
    exponent = tl.full([BLOCK], _NO_PRODUCT, tl.int32)
    for first in range(0, labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        to_blank, to_blank_e, to_label, to_label_e = enter_from_row(
            j, meeting, mantissas, exponents, labels_at, labels, j < 0
        )
        blank, blank_e = load_states(mantissas, exponents, other_meeting + labels - j, j <= labels)
        label, label_e = load_states(mantissas, exponents, other_meeting + 2 * labels - j, j < labels)
        blank, label = blank * to_blank, label * to_label
        blank_e = tl.where(blank == 0.0, _NO_PRODUCT, blank_e + to_blank_e)
        label_e = tl.where(label == 0.0, _NO_PRODUCT, label_e + to_label_e)
        joint, joint_e = add_scaled(blank, blank_e, label, label_e)
        mantissa, exponent = add_scaled(mantissa, exponent, joint, joint_e)
    largest = tl.max(exponent, 0)
    return tl.sum(mantissa * pow2_or_0(exponent - largest), 0), largest


@triton.jit
def ctc_part_kernel(
    loss_out, row_max, log_sum, joint, mantissas, exponents, emissions, emission_exponents, targets, logit_lengths,
    target_lengths, offsets, frames_room, batch, labels_room, chunk, rows, classes, star,
    ZERO_INFINITY: tl.constexpr, SAVE: tl.constexpr, RESIDENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Loss where the directions meet; with SAVE walk each on through the other's half and leave joint probabilities.

    Rows of utterances without an alignment get a log-sum of +inf, those of faulty ones NaN.
    """
    pid = tl.program_id(0).to(tl.int64)
    n, mirrored = pid // 2, pid % 2 == 1
    at, labels, first_label, _, label_fault = find_target(n, target_lengths, offsets, labels_room)
    frames, frame_fault = find_frames(n, logit_lengths, frames_room)
    labels_at = targets + first_label
    width = 2 * labels.to(tl.int64) + 2
    states = 4 * at * rows
    meeting = (rows - EXTRA_ROWS) * width

    fault = label_fault | frame_fault
    total = tl.full([], 0.0, tl.float32)
    total_exponent = tl.full([], 0, tl.int32)
    if not fault:
        total, total_exponent = _total(
            mantissas + states, exponents + states, meeting, rows * width + meeting, labels_at, labels, BLOCK
        )
        # A NaN or +inf logit in any frame has made the total NaN.
        fault = has_bad_label(labels_at, labels, classes, star, BLOCK) | (total != total)
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
            turns = (rows - EXTRA_ROWS + 1) * width
            chunk_kept = tl.maximum(other_half - 1, 0) // chunk
            row = meeting
            if RESIDENT:
                j = tl.arange(0, BLOCK)
                skips = can_skip(j, labels_at, labels, mirrored)
                blank, blank_e = load_states(mantissas + own, exponents + own, meeting + j, j <= labels)
                label, label_e = load_states(mantissas + own, exponents + own, meeting + labels + 1 + j, j < labels)
            for k in range(half, frames):
                asked = frames - k
                wanted_chunk = asked // chunk
                if (asked % chunk != 0) & (wanted_chunk != chunk_kept):
                    _walk(
                        wanted_chunk * chunk, wanted_chunk * chunk + chunk - 1, width, chunk, mantissas + other,
                        exponents + other, emissions, emission_exponents, labels_at, frames, labels, mirrored == 0,
                        SAVE=SAVE, RESIDENT=RESIDENT, BLOCK=BLOCK,
                    )  # fmt: skip
                    chunk_kept = wanted_chunk
                other_row = _row_of(asked, chunk, SAVE) * width
                if RESIDENT:
                    blank_own, blank_own_e, own_m, own_e = load_emissions(
                        k, j, emissions, emission_exponents, frames, labels, mirrored
                    )
                    blank, blank_e, label, label_e = step_in_registers(
                        k, j, blank, blank_e, label, label_e, skips, blank_own, blank_own_e, own_m, own_e, frames,
                        labels, mirrored, mantissas + other, exponents + other, other_row, total_exponent, joint,
                        POSTERIOR=True,
                    )  # fmt: skip
                else:
                    next_row = turns + (k % 2) * width
                    step_in_memory(
                        k, row, next_row, mantissas + own, exponents + own, emissions, emission_exponents,
                        labels_at, frames, labels, mirrored, mantissas + other, exponents + other, other_row,
                        total_exponent, joint, POSTERIOR=True, BLOCK=BLOCK,
                    )  # fmt: skip
                    row = next_row
