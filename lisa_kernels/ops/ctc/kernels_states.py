"""Device code of one step of the recursion: from the states of one frame to those of the next.

Backward in time the recursion is that of the reversed target on the reversed frames.  So both directions run the same
code in their own coordinates: blank j, then label j, counted from the direction's start; only what they load and store
is addressed from the other end.  A state's value is mantissa * 2^exponent (``kernels_scaled.py``).

States live in memory, in rows of S+1 blanks and S labels: a step loads the row before it, the labels also shifted by
one, and stores its own, at a barrier a frame.  Or, where a warp holds all of them (RESIDENT), in registers: labels are
shifted by shuffles, and rows are only stored.
"""

import triton
import triton.language as tl

from lisa_kernels.ops.ctc.kernels_scaled import ZERO_EXPONENT, add_scaled, normalise, pow2_or_0

# A posterior is at most 1 and a product of mantissas below 2^6: higher exponents come only from values held at the
# lowest exponent.  The gradient is inexact there, but finite.
_HIGHEST_POSTERIOR = tl.constexpr(60)


@triton.jit
def load_states(mantissas, exponents, at, on):
    """A block of states; 0 where ``on`` is not."""
    return tl.load(mantissas + at, mask=on, other=0.0), tl.load(exponents + at, mask=on, other=ZERO_EXPONENT)


@triton.jit
def store_states(mantissas, exponents, row, j, labels, blank, blank_e, label, label_e):
    """Store a block of blanks and labels to the row that begins at ``row``."""
    to_label = row + labels + 1 + j
    tl.store(mantissas + row + j, blank, mask=j <= labels)
    tl.store(exponents + row + j, blank_e, mask=j <= labels)
    tl.store(mantissas + to_label, label, mask=j < labels)
    tl.store(exponents + to_label, label_e, mask=j < labels)


@triton.jit
def position_of(j, labels, mirrored):
    """Position in the target of label j of a direction; position 0 is the blank."""
    return tl.where(mirrored, labels - j, j + 1)


@triton.jit
def can_skip(j, labels_at, labels, mirrored):
    """Whether label j may follow label j - 1 without a blank."""
    position = position_of(j, labels, mirrored)
    pair = (j > 0) & (j < labels)
    own = tl.load(labels_at + position - 1, mask=pair, other=0)
    return own != tl.load(labels_at + position - 1 + tl.where(mirrored, 1, -1), mask=pair, other=0)


@triton.jit
def _enter(blank, blank_e, label, label_e, near, near_e, skips):
    """What enters blank j and label j, before the frame's emission; ``near`` is label j - 1."""
    to_blank, to_blank_e = add_scaled(blank, blank_e, near, near_e)
    entering, entering_e = tl.where(skips, to_blank, blank), tl.where(skips, to_blank_e, blank_e)
    to_label, to_label_e = add_scaled(entering, entering_e, label, label_e)
    return to_blank, to_blank_e, to_label, to_label_e


@triton.jit
def enter_from_row(j, row, mantissas, exponents, labels_at, labels, mirrored):
    """What enters blank j and label j from the states at ``row``."""
    blank, blank_e = load_states(mantissas, exponents, row + j, j <= labels)
    label, label_e = load_states(mantissas, exponents, row + labels + 1 + j, j < labels)
    near, near_e = load_states(mantissas, exponents, row + labels + j, (j > 0) & (j <= labels))
    return _enter(blank, blank_e, label, label_e, near, near_e, can_skip(j, labels_at, labels, mirrored))


@triton.jit
def _enter_from_registers(j, blank, blank_e, label, label_e, skips):
    before = tl.maximum(j - 1, 0)
    near = tl.where(j > 0, tl.gather(label, before, 0), 0.0)
    near_e = tl.where(j > 0, tl.gather(label_e, before, 0), ZERO_EXPONENT)
    return _enter(blank, blank_e, label, label_e, near, near_e, skips)


@triton.jit
def load_emissions(k, j, emissions, emission_exponents, frames, labels, mirrored):
    """Emissions of the blank and of label j in the frame after k; 0 beyond the target and where there is no frame."""
    exists = k < frames
    at = _frame_of(k, frames, mirrored) * (labels + 1)
    blank, blank_e = load_states(emissions, emission_exponents, at, exists)
    on = exists & (j < labels)
    label, label_e = load_states(emissions, emission_exponents, at + position_of(j, labels, mirrored), on)
    return blank, blank_e, label, label_e


@triton.jit
def _frame_of(k, frames, mirrored):
    return tl.where(mirrored, frames - 1 - k, k).to(tl.int64)


@triton.jit
def _store_joint(
    k, j, to_blank, to_blank_e, to_label, to_label_e, other_mantissas, other_exponents, other_row, total_exponent,
    joint, frames, labels, mirrored,
):  # fmt: skip
    """Joint probabilities with the other direction, relative to 2**total_exponent: stores labels', returns blanks'."""
    # The other direction counts from the other end.
    blank, blank_e = load_states(other_mantissas, other_exponents, other_row + labels - j, j <= labels)
    label, label_e = load_states(other_mantissas, other_exponents, other_row + 2 * labels - j, j < labels)
    blank_e = tl.minimum(blank_e + (to_blank_e - total_exponent), _HIGHEST_POSTERIOR)
    label_e = tl.minimum(label_e + (to_label_e - total_exponent), _HIGHEST_POSTERIOR)
    to = joint + _frame_of(k, frames, mirrored) * (labels + 1) + position_of(j, labels, mirrored)
    tl.store(to, to_label * label * pow2_or_0(label_e), mask=j < labels)
    return to_blank * blank * pow2_or_0(blank_e)


@triton.jit
def step_in_memory(
    k, row, next_row, mantissas, exponents, emissions, emission_exponents, labels_at, frames, labels, mirrored,
    other_mantissas, other_exponents, other_row, total_exponent, joint,
    POSTERIOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From the states after k frames at ``row`` to those after k + 1 at ``next_row``; with POSTERIOR also ``joint``."""
    in_blanks = tl.zeros([BLOCK], tl.float32)
    for first in range(0, labels + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        blank_own, blank_own_e, own, own_e = load_emissions(
            k, j, emissions, emission_exponents, frames, labels, mirrored
        )
        to_blank, to_blank_e, to_label, to_label_e = enter_from_row(
            j, row, mantissas, exponents, labels_at, labels, mirrored
        )
        if POSTERIOR:
            in_blanks += _store_joint(
                k, j, to_blank, to_blank_e, to_label, to_label_e, other_mantissas, other_exponents, other_row,
                total_exponent, joint, frames, labels, mirrored,
            )  # fmt: skip
        blank, blank_e = normalise(to_blank * blank_own, to_blank_e + blank_own_e)
        label, label_e = normalise(to_label * own, to_label_e + own_e)
        store_states(mantissas, exponents, next_row, j, labels, blank, blank_e, label, label_e)
    if POSTERIOR:
        tl.store(joint + _frame_of(k, frames, mirrored) * (labels + 1), tl.sum(in_blanks, 0))
    # The next step's threads load what other threads stored.
    tl.debug_barrier()


@triton.jit
def step_in_registers(
    k, j, blank, blank_e, label, label_e, skips, blank_own, blank_own_e, own, own_e, frames, labels, mirrored,
    other_mantissas, other_exponents, other_row, total_exponent, joint,
    POSTERIOR: tl.constexpr,
):  # fmt: skip
    """The states after k + 1 frames from those after k, given the emissions; with POSTERIOR also ``joint``."""
    to_blank, to_blank_e, to_label, to_label_e = _enter_from_registers(j, blank, blank_e, label, label_e, skips)
    if POSTERIOR:
        in_blanks = _store_joint(
            k, j, to_blank, to_blank_e, to_label, to_label_e, other_mantissas, other_exponents, other_row,
            total_exponent, joint, frames, labels, mirrored,
        )  # fmt: skip
        tl.store(joint + _frame_of(k, frames, mirrored) * (labels + 1), tl.sum(in_blanks, 0))
    blank, blank_e = normalise(to_blank * blank_own, to_blank_e + blank_own_e)
    label, label_e = normalise(to_label * own, to_label_e + own_e)
    return blank, blank_e, label, label_e
