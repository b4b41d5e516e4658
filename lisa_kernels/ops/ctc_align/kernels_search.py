"""Device code of the search: from frame to frame the best score of a path into each blank and label.

Scores are summed in fp64 in the order of the frames, as in every backend: ties are the same everywhere.  A program that
has room for a whole window keeps it in registers (RESIDENT): position j in lane j modulo BLOCK, so that a band moves
over the lanes like a wheel, and labels are shifted by shuffles, or through shared memory where there are several warps.
Else positions live in memory, two rows that take turns, at a barrier a frame.
"""

import triton
import triton.language as tl

from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target
from lisa_kernels.ops.ctc_align.kernels_window import POSITIONS_OF_A_WORD, go_on, moves_of, scores_of, window_at


@triton.jit
def _can_skip(j, targets_at, labels):
    """Whether label j may follow label j - 1 without a blank."""
    pair = (j > 0) & (j < labels)
    own = tl.load(targets_at + j, mask=pair, other=0)
    return own != tl.load(targets_at + j - 1, mask=pair, other=0)


@triton.jit
def _load_scores(t, j, scores, stride, first, frames, labels):
    """Search scores of blank and label j at a frame; -inf beyond labels, window and frames."""
    row = scores + stride * t
    blank = tl.load(row, mask=t < frames, other=float("-inf"))
    on = (t < frames) & (j >= first) & (j < labels) & (j - first < stride - 1)
    label = tl.load(row + 1 + j - first, mask=on, other=float("-inf"))
    return blank.to(tl.float64), label.to(tl.float64)


@triton.jit
def _enter(blank, label, near, skips, blank_score, label_score):
    """Best scores after a frame, and the moves there: 1 advance, 2 skip onto the label, 4 advance onto the blank.

    Each only where it is better: staying wins over advancing, and that over skipping.
    """
    skip = tl.where(skips, near, float("-inf"))
    moved = tl.maximum(skip, blank)
    onto_label = tl.where(moved > label, tl.where(skip > blank, 2, 1), 0)
    move = onto_label + tl.where(near > blank, 4, 0)
    return tl.maximum(near, blank) + blank_score, tl.maximum(moved, label) + label_score, move


@triton.jit
def _store_moves(row, first, last, word, move, BLOCK: tl.constexpr):
    """Store the moves of BLOCK positions, eight to a word; ``word`` tells which."""
    place = tl.arange(0, BLOCK) % POSITIONS_OF_A_WORD
    words = tl.sum(tl.reshape(move << (4 * place), [BLOCK // POSITIONS_OF_A_WORD, POSITIONS_OF_A_WORD]), 1)
    first_word = first // POSITIONS_OF_A_WORD
    tl.store(row + word - first_word, words, mask=(word >= first_word) & (word <= last // POSITIONS_OF_A_WORD))


@triton.jit
def _position_of(lane, first, BLOCK: tl.constexpr):
    """The position that a lane holds in a window that begins at ``first``."""
    return first + ((lane - first) & (BLOCK - 1))


@triton.jit
def _ahead(
    t, along, rest, scores, stride, targets_at, frames, labels, band, skips,
    BANDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What the lanes need at frame t: window, which labels may follow without a blank, and search scores."""
    first, last = window_at(along, rest, labels, band, BANDED)
    j = _position_of(tl.arange(0, BLOCK), first, BLOCK)
    if BANDED:
        skips = _can_skip(j, targets_at, labels)
    blank_score, label_score = _load_scores(t, j, scores, stride, first, frames, labels)
    return first, last, skips, blank_score, label_score


@triton.jit
def ctc_search_kernel(
    scores, moves_out, best_out, end_out, rows, targets, logit_lengths, target_lengths, offsets, frames_room,
    labels_room, band,
    BANDED: tl.constexpr, RESIDENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Moves of all frames; the best score of a whole path, -inf without one, and its last state 2 j + (on the label).

    ``rows``: fp64 scratch, four a position; not used if RESIDENT.
    """
    n = tl.program_id(0).to(tl.int64)
    at, labels, first_label, _, _ = find_target(n, target_lengths, offsets, labels_room)
    frames, _ = find_frames(n, logit_lengths, frames_room)
    targets_at = targets + first_label
    base, stride = scores_of(n, at, labels, frames_room, band, BANDED)
    scores += base
    base, words = moves_of(n, at, labels, frames_room, band, BANDED)
    moves_out += base
    impossible = tl.full([], float("-inf"), tl.float64)
    if RESIDENT:
        lane = tl.arange(0, BLOCK)
        word_end = POSITIONS_OF_A_WORD * tl.arange(0, BLOCK // POSITIONS_OF_A_WORD) + POSITIONS_OF_A_WORD - 1
        constant = _can_skip(lane, targets_at, labels)
        # Before the first frame: as if in the first blank.
        blank = tl.where(lane == 0, 0.0, impossible)
        label = tl.full([BLOCK], float("-inf"), tl.float64)
        before, along, rest = labels * 0, labels * 0, labels * 0
        first, last, skips, blank_score, label_score = _ahead(
            0, along, rest, scores, stride, targets_at, frames, labels, band, constant, BANDED, BLOCK
        )
        along, rest = go_on(along, rest, frames, labels, BANDED)
        next_first, next_last, next_skips, next_blank, next_label = _ahead(
            1, along, rest, scores, stride, targets_at, frames, labels, band, constant, BANDED, BLOCK
        )
        for t in range(frames):
            # Of the frame after the next: a load from the L2 cache takes longer than a step.
            along, rest = go_on(along, rest, frames, labels, BANDED)
            third_first, third_last, third_skips, third_blank, third_label = _ahead(
                t + 2, along, rest, scores, stride, targets_at, frames, labels, band, constant, BANDED, BLOCK
            )
            near = tl.gather(label, (lane - 1) & (BLOCK - 1), 0)
            j = _position_of(lane, first, BLOCK)
            if BANDED:
                # Lanes that the window left behind hold positions that it comes to.
                stays = _position_of(lane, before, BLOCK) == j
                blank, label = tl.where(stays, blank, impossible), tl.where(stays, label, impossible)
                near = tl.where(_position_of((lane - 1) & (BLOCK - 1), before, BLOCK) == j - 1, near, impossible)
            else:
                near = tl.where(lane > 0, near, impossible)
            blank, label, move = _enter(blank, label, near, skips, blank_score, label_score)
            if BANDED:
                blank, label = tl.where(j <= last, blank, impossible), tl.where(j <= last, label, impossible)
            # The last position of a word is inside where any is.
            word = _position_of(word_end, first, BLOCK) // POSITIONS_OF_A_WORD
            _store_moves(moves_out + words * t, first, last, word, move, BLOCK)
            before = first
            first, last, skips, blank_score, label_score = next_first, next_last, next_skips, next_blank, next_label
            next_first, next_last, next_skips, next_blank, next_label = (
                third_first, third_last, third_skips, third_blank, third_label,
            )  # fmt: skip
        j = _position_of(lane, before, BLOCK)
        last_blank = tl.max(tl.where(j == labels, blank, impossible), 0)
        last_label = tl.max(tl.where(j == labels - 1, label, impossible), 0)
    else:
        width = labels.to(tl.int64) + 1
        rows += 4 * at
        tl.store(rows, 0.0)
        tl.store(rows + width, impossible)
        tl.debug_barrier()
        before_first, before_last, along, rest = labels * 0, labels * 0, labels * 0, labels * 0
        for t in range(frames):
            from_blanks, to_blanks = rows + (t % 2) * 2 * width, rows + (1 - t % 2) * 2 * width
            from_labels, to_labels = from_blanks + width, to_blanks + width
            first, last = window_at(along, rest, labels, band, BANDED)
            for block in range(first // POSITIONS_OF_A_WORD * POSITIONS_OF_A_WORD, last + 1, BLOCK):
                j = block + tl.arange(0, BLOCK)
                inside = (j >= before_first) & (j <= before_last)
                blank = tl.load(from_blanks + j, mask=inside, other=float("-inf"))
                label = tl.load(from_labels + j, mask=inside, other=float("-inf"))
                inside = (j > before_first) & (j <= before_last + 1)
                near = tl.load(from_labels + j - 1, mask=inside, other=float("-inf"))
                blank_score, label_score = _load_scores(t, j, scores, stride, first, frames, labels)
                skips = _can_skip(j, targets_at, labels)
                blank, label, move = _enter(blank, label, near, skips, blank_score, label_score)
                inside = (j >= first) & (j <= last)
                tl.store(to_blanks + j, blank, mask=inside)
                tl.store(to_labels + j, label, mask=inside)
                word = block // POSITIONS_OF_A_WORD + tl.arange(0, BLOCK // POSITIONS_OF_A_WORD)
                _store_moves(moves_out + words * t, first, last, word, move, BLOCK)
            before_first, before_last = first, last
            along, rest = go_on(along, rest, frames, labels, BANDED)
            # The next frame's threads load what other threads stored.
            tl.debug_barrier()
        blanks = rows + (frames % 2) * 2 * width
        last_blank = tl.load(blanks + labels, mask=before_last >= labels, other=float("-inf"))
        has_last = (labels > 0) & (before_last >= labels - 1) & (before_first <= labels - 1)
        last_label = tl.load(blanks + width + labels - 1, mask=has_last, other=float("-inf"))
    on_label = (last_label >= last_blank) & (last_label > float("-inf"))
    tl.store(best_out + n, tl.maximum(last_label, last_blank))
    tl.store(end_out + n, tl.where(on_label, 2 * labels - 1, 2 * labels))
