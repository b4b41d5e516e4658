"""Device code that says which positions a frame may hold, and where their scores, moves and maps lie.

A position is the blank before label j and label j; position S has a blank alone.  Without a band all positions are in
every frame's window, with one at most ``2 * band + 1``.  Arrays hold windows one after another: a row of an utterance
is as long as its longest window, and what the utterances before it may take at most is left out.
"""

import triton
import triton.language as tl

# Moves of a word.
POSITIONS_OF_A_WORD = tl.constexpr(8)


@triton.jit
def window_at(along, rest, labels, band, BANDED: tl.constexpr):
    """First and last position within a frame's window; ``t * labels / frames`` is ``along`` and ``rest / frames``."""
    if BANDED:
        # Rounded up for the first.
        first, last = tl.maximum(along + (rest > 0) - band, 0), tl.minimum(along + band, labels)
    else:
        first, last = labels * 0, labels
    return first, last


@triton.jit
def window(t, frames, labels, band, BANDED: tl.constexpr):
    """First and last position of frame t: those with ``abs(j - t * labels / frames) <= band``."""
    if BANDED:
        way = labels.to(tl.int64) * t
        along = way // tl.maximum(frames, 1)
        rest = (way - along * frames).to(tl.int32)
        along = along.to(tl.int32)
    else:
        along, rest = labels * 0, labels * 0
    return window_at(along, rest, labels, band, BANDED)


@triton.jit
def go_on(along, rest, frames, labels, BANDED: tl.constexpr):
    """``along`` and ``rest`` of the next frame, without the division."""
    if BANDED:
        whole = labels // tl.maximum(frames, 1)
        rest += labels - whole * frames
        is_over = rest >= frames
        along, rest = along + whole + is_over, tl.where(is_over, rest - frames, rest)
    return along, rest


@triton.jit
def scores_of(n, at, labels, frames_room, band, BANDED: tl.constexpr):
    """Where the score rows of an utterance begin, and their stride: the blank's, then those of the window's labels."""
    before, width = at, labels.to(tl.int64) + 1
    if BANDED:
        before, width = tl.minimum(before, n * (2 * band + 2)), tl.minimum(width, 2 * band + 2)
    return before * frames_room, width


@triton.jit
def moves_of(n, at, labels, frames_room, band, BANDED: tl.constexpr):
    """Where the rows of moves of an utterance begin, and their stride, in words; first is the window's first word."""
    before, width = (at - n) // POSITIONS_OF_A_WORD + n, labels.to(tl.int64) // POSITIONS_OF_A_WORD + 1
    if BANDED:
        # A window may begin at the last position of a word.
        most = (2 * band + POSITIONS_OF_A_WORD - 1) // POSITIONS_OF_A_WORD + 1
        before, width = tl.minimum(before, n * most), tl.minimum(width, most)
    return before * frames_room, width


@triton.jit
def maps_of(n, at, labels, chunks, band, BANDED: tl.constexpr):
    """Where the maps of an utterance begin, and their stride: two states for each position of a window."""
    before, width = at, labels.to(tl.int64) + 1
    if BANDED:
        before, width = tl.minimum(before, n * (2 * band + 1)), tl.minimum(width, 2 * band + 1)
    return 2 * before * chunks, 2 * width
