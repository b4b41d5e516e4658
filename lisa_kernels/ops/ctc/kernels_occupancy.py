"""Device code that turns joint probabilities into what forward saves: the posteriors of each frame."""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from lisa_kernels.ops.ctc.kernels_rows import rows_of
from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target, is_star, sum_of_class


@triton.jit
def ctc_occupancy_kernel(
    joint, occupancy_out, star_rows, log_sum, following, first_position, targets, logit_lengths, target_lengths,
    offsets, frames_room, batch, labels_room, target_count, classes, star,
    BY_CLASS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Posteriors of each frame, divided by their own sum, in place or summed for each class; 0 where there are none.

    With a star also log(its posterior) less the log-sum that the rows' pass left.

    The division removes the drift of the recursion, which would grow with T: 3.7e-5 instead of 4e-6 of the gradient at
    T = 500 on trained-like logits.
    """
    n, frame, exists = rows_of(tl.program_id(0).to(tl.int64), batch, frames_room, ROWS)
    at, labels, start, room, _ = find_target(n, target_lengths, offsets, labels_room)
    if offsets is not None:
        # What lengths leave of concatenated targets belongs to the last.
        room = tl.where(n == batch - 1, target_count - start, room)
    frames, _ = find_frames(n, logit_lengths, frames_room)
    active = (frame < frames) & (tl.load(log_sum + frame * batch + n, mask=exists, other=float("inf")) < float("inf"))
    row = (labels + 1) * tl.arange(0, ROWS)
    joint_rows = joint + at * frames_room + tl.min(frame, 0) * (labels + 1)
    rows = joint_rows + row

    total = tl.zeros([ROWS], tl.float32)
    in_stars = tl.zeros([ROWS], tl.float32)
    for first in range(0, labels + 1, POSITIONS):
        position = first + tl.arange(0, POSITIONS)
        on = active[:, None] & (position <= labels)[None, :]
        value = tl.load(rows[:, None] + position[None, :], mask=on, other=0.0)
        total += tl.sum(value, 1)
        if star is not None:
            starred = is_star(position, targets + start, labels, star)
            in_stars += tl.sum(tl.where(starred[None, :], value, 0.0), 1)
    total = tl.where(total > 0.0, total, 1.0)
    if star is not None:
        to = star_rows + (frames_room + frame) * batch + n
        rest_log_sum = tl.load(to, mask=exists, other=0.0)
        share = libdevice.log(tl.where(in_stars > 0.0, in_stars, 1.0) / total) - rest_log_sum
        tl.store(to, tl.where(in_stars > 0.0, share, float("-inf")), mask=exists)

    if BY_CLASS:
        out = occupancy_out + (n * frames_room + frame) * classes
        for first in range(0, classes, BLOCK):
            column = first + tl.arange(0, BLOCK)
            inside = column < classes
            chain = tl.load(first_position + n * classes + column, mask=inside, other=-1).to(tl.int32)
            summed = sum_of_class(joint_rows, row, active, chain, following + at)
            divided = tl.div_rn(summed, total[:, None] + 0.0 * summed)
            tl.store(out[:, None] + column[None, :], divided, mask=exists[:, None] & inside[None, :])
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
