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
def window(t, frames, labels, band, BANDED: tl.constexpr):
    """First and last position of frame t, int32: those with ``abs(j - t * labels / frames) <= band``."""
    if BANDED:
        way = labels.to(tl.int64) * t
        along = way // tl.maximum(frames, 1)
        # Rounded up for the first.
        first = along + (way - along * frames > 0).to(tl.int64) - band
        first, last = tl.maximum(first, 0), tl.minimum(along + band, labels)
    else:
        first, last = labels * 0, labels
    return first.to(tl.int32), last.to(tl.int32)


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
