"""Device code for targets: where an utterance lies, the classes of its positions, and which positions share one.

Positions of an utterance are blank, label 0, ..., label S-1.  Arrays of positions hold those of utterance n from
``o_n + n`` on, where ``o_n`` counts the labels before its target in ``targets``; arrays with a row of positions for
each frame begin T times as far.
"""

import triton
import triton.language as tl

# Class of a label that no class has: the utterance gives NaN.
BAD_CLASS = tl.constexpr(-1)
_NO_POSITION = tl.constexpr(2**31 - 1)


@triton.jit
def find_target(n, target_lengths, offsets, labels_room):
    """First position, labels, first label in ``targets``, room for labels, and whether the length is a fault.

    A faulty length counts as 0.  ``offsets`` is None for padded targets, whose width is ``labels_room``.
    """
    labels = tl.load(target_lengths + n)
    if offsets is None:
        start = n * labels_room
        room = start * 0 + labels_room
    else:
        start = tl.load(offsets + n)
        room = tl.load(offsets + n + 1) - start
    fault = (labels < 0) | (labels > room)
    return start + n, tl.where(fault, 0, labels).to(tl.int32), start, room, fault


@triton.jit
def find_frames(n, logit_lengths, frames_room):
    """Frames within the length, held between 0 and those there are, and whether the length is a fault."""
    frames = tl.load(logit_lengths + n)
    fault = (frames < 0) | (frames > frames_room)
    return tl.minimum(tl.maximum(frames, 0), frames_room).to(tl.int32), fault


@triton.jit
def class_of(position, targets, start, labels, blank, classes):
    """Class of each position; -2 beyond the target."""
    label = tl.load(targets + start + position - 1, mask=(position > 0) & (position <= labels), other=0).to(tl.int64)
    label = tl.where((label < 0) | (label >= classes), BAD_CLASS, label)
    label = tl.where(position == 0, blank, label)
    return tl.where(position <= labels, label, -2).to(tl.int32)


@triton.jit
def has_bad_label(classes, labels, BLOCK: tl.constexpr):
    """Whether a position of the utterance whose classes begin at ``classes`` has none."""
    bad = tl.zeros([BLOCK], tl.int32)
    for first in range(0, labels + 1, BLOCK):
        position = first + tl.arange(0, BLOCK)
        found = tl.load(classes + position, mask=position <= labels, other=0)
        bad = tl.maximum(bad, (found == BAD_CLASS).to(tl.int32))
    return tl.max(bad, 0) > 0


@triton.jit
def sum_of_class(values, rows_on, position, count, following):
    """For each row and each position that is its class's first, the sum over all positions of that class.

    Args:
        values: Pointers to the rows of positions, ``[ROWS]``.
        rows_on: Rows to read, ``[ROWS]``; others give 0.
        position: ``[POSITIONS]``.
        count: Positions of the class, for its first one; else 0.  As ``ctc_positions_kernel`` wrote it.
        following: Pointer to the next position of the same class, for each position.
    """
    cursor = tl.where(count > 0, position, -1)
    total = tl.zeros([values.shape[0], position.shape[0]], tl.float32)
    # In the order of the target, whoever computes it: the same bits every time.
    for _ in range(tl.max(count, 0)):
        here = cursor >= 0
        total += tl.load(values[:, None] + cursor[None, :], mask=rows_on[:, None] & here[None, :], other=0.0)
        cursor = tl.load(following + cursor, mask=here, other=-1)
    return total


@triton.jit
def ctc_positions_kernel(
    targets, target_lengths, offsets, classes_out, following_out, count_out, batch, labels_room, classes, blank,
    LINKS: tl.constexpr, BLOCK: tl.constexpr, OTHERS: tl.constexpr,
):  # fmt: skip
    """Class of each position; with LINKS also the next one of its class (-1: none) and, at the first, how many.

    A program compares BLOCK positions with all others, OTHERS at a time.
    """
    pid = tl.program_id(0).to(tl.int64)
    n = pid % batch
    first = (pid // batch * BLOCK).to(tl.int32)
    at, labels, start, _, _ = find_target(n, target_lengths, offsets, labels_room)
    if first > labels:
        return
    position = first + tl.arange(0, BLOCK)
    inside = position <= labels
    mine = class_of(position, targets, start, labels, blank, classes)
    tl.store(classes_out + at + position, mine, mask=inside)
    if LINKS:
        nearest = tl.full([BLOCK], _NO_POSITION, tl.int32)
        earlier = tl.zeros([BLOCK], tl.int32)
        later = tl.zeros([BLOCK], tl.int32)
        for start_other in range(0, labels + 1, OTHERS):
            other = start_other + tl.arange(0, OTHERS)
            same = mine[:, None] == class_of(other, targets, start, labels, blank, classes)[None, :]
            after = same & (other[None, :] > position[:, None])
            nearest = tl.minimum(nearest, tl.min(tl.where(after, other[None, :], _NO_POSITION), 1))
            later += tl.sum(after.to(tl.int32), 1)
            earlier += tl.sum((same & (other[None, :] < position[:, None])).to(tl.int32), 1)
        is_first = (earlier == 0) & (mine != BAD_CLASS)
        tl.store(following_out + at + position, tl.where(nearest == _NO_POSITION, -1, nearest), mask=inside)
        tl.store(count_out + at + position, tl.where(is_first, later + 1, 0), mask=inside)
