"""Device code for targets: where an utterance lies, the classes of its positions, and which positions share one.

Positions of an utterance are blank, label 0, ..., label S-1.  Arrays of positions hold those of utterance n from
``o_n + n`` on, where ``o_n`` counts the labels before its target in ``targets``; arrays with a row of positions for
each frame begin T times as far.
"""

import triton
import triton.language as tl

# Class of a label that no class has: the utterance gives NaN.
BAD_CLASS = tl.constexpr(-1)
_BEYOND = tl.constexpr(-2)
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
def class_of(position, labels_at, labels, blank, classes):
    """Class of each position of the target whose labels begin at ``labels_at``; below 0 where there is none."""
    label = tl.load(labels_at + position - 1, mask=(position > 0) & (position <= labels), other=0).to(tl.int64)
    label = tl.where((label < 0) | (label >= classes), BAD_CLASS, label)
    label = tl.where(position == 0, blank, label)
    return tl.where(position <= labels, label, _BEYOND).to(tl.int32)


@triton.jit
def is_star(position, labels_at, labels, star):
    """Whether each position of the target is a star; its class is then below 0."""
    return tl.load(labels_at + position - 1, mask=(position > 0) & (position <= labels), other=star + 1) == star


@triton.jit
def has_bad_label(labels_at, labels, classes, star, BLOCK: tl.constexpr):
    """Whether a label of the target whose labels begin at ``labels_at`` is no class, and no star."""
    bad = tl.zeros([BLOCK], tl.int32)
    for first in range(0, labels + 1, BLOCK):
        position = first + tl.arange(0, BLOCK)
        found = class_of(position, labels_at, labels, 0, classes) == BAD_CLASS
        if star is not None:
            found = found & (is_star(position, labels_at, labels, star) == 0)
        bad = tl.maximum(bad, found.to(tl.int32))
    return tl.max(bad, 0) > 0


@triton.jit
def sum_of_class(values, row, rows_on, first_position, following):
    """For each row and class the sum over all positions of the class, in the order of the target.

    Args:
        values: Pointer to positions.
        row: Where each row of positions begins, ``[ROWS]``.
        rows_on: Rows to read, ``[ROWS]``; others give 0.
        first_position: Of each class, ``[CLASSES]``; below 0 where it has none.
        following: Pointer to the next position of the same class, for each position.
    """
    cursor = first_position
    on = rows_on[:, None] & (cursor >= 0)[None, :]
    total = tl.load(values + (row[:, None] + cursor[None, :]), mask=on, other=0.0)
    cursor = tl.load(following + cursor, mask=cursor >= 0, other=-1)
    while tl.max(cursor, 0) >= 0:
        on = rows_on[:, None] & (cursor >= 0)[None, :]
        total += tl.load(values + (row[:, None] + cursor[None, :]), mask=on, other=0.0)
        cursor = tl.load(following + cursor, mask=cursor >= 0, other=-1)
    return total


@triton.jit
def ctc_offsets_kernel(target_lengths, offsets_out, batch, target_count, BLOCK: tl.constexpr):
    """Where each concatenated target begins, and the end of the last, ``[N + 1]``; within the labels there are."""
    before = tl.full([], 0, tl.int64)
    tl.store(offsets_out, before)
    for first in range(0, batch, BLOCK):
        n = first + tl.arange(0, BLOCK)
        labels = tl.load(target_lengths + n, mask=n < batch, other=0)
        labels = tl.minimum(tl.maximum(labels, 0), target_count)
        ends = tl.minimum(before + tl.cumsum(labels, 0), target_count)
        tl.store(offsets_out + 1 + n, ends, mask=n < batch)
        before = tl.max(ends, 0)


@triton.jit
def ctc_links_kernel(
    targets, target_lengths, offsets, following_out, first_position_out, batch, labels_room, classes, blank,
    BLOCK: tl.constexpr, OTHERS: tl.constexpr,
):  # fmt: skip
    """The next position of the same class, for each position, and the first position of each class; -1: none.

    A program compares BLOCK positions, or BLOCK classes, with all positions of an utterance, OTHERS at a time.
    """
    pid = tl.program_id(0).to(tl.int64)
    n = pid % batch
    position_blocks = tl.cdiv(labels_room + 1, BLOCK)
    at, labels, start, _, _ = find_target(n, target_lengths, offsets, labels_room)
    labels_at = targets + start
    block = (pid // batch).to(tl.int32)
    nearest = tl.full([BLOCK], _NO_POSITION, tl.int32)
    if block < position_blocks:
        position = block * BLOCK + tl.arange(0, BLOCK)
        mine = class_of(position, labels_at, labels, blank, classes)
        last = tl.where(block * BLOCK <= labels, labels + 1, 0)
    else:
        position = tl.full([BLOCK], -1, tl.int32)
        mine = (block - position_blocks) * BLOCK + tl.arange(0, BLOCK)
        last = labels + 1
    for first in range(0, last, OTHERS):
        other = first + tl.arange(0, OTHERS)
        same = mine[:, None] == class_of(other, labels_at, labels, blank, classes)[None, :]
        after = same & (other[None, :] > position[:, None])
        nearest = tl.minimum(nearest, tl.min(tl.where(after, other[None, :], _NO_POSITION), 1))
    nearest = tl.where(nearest == _NO_POSITION, -1, nearest)
    if block < position_blocks:
        tl.store(following_out + at + position, nearest, mask=position <= labels)
    else:
        to = first_position_out + n * classes + mine
        tl.store(to, nearest.to(first_position_out.dtype.element_ty), mask=mine < classes)
