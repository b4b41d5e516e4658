"""Device code that reads the path off the moves, from its end, without going through all frames one after another.

States are 2 j + (on the label).  Frames come in chunks of FRAMES.  For each chunk and each state at its last frame the
state before its first one is found, all at once (``ctc_maps_kernel``); then a program goes from chunk to chunk
(``ctc_chain_kernel``); then all chunks are walked at once from the states found there (``ctc_path_kernel``).  So
2 FRAMES + T / FRAMES loads come one after another instead of T.
"""

import triton
import triton.language as tl

from lisa_kernels.ops.ctc.kernels_target import find_frames, find_target
from lisa_kernels.ops.ctc_align.kernels_window import POSITIONS_OF_A_WORD, maps_of, moves_of, scores_of, window


@triton.jit
def _back(state, on, row, first, last):
    """The state one frame earlier; ``row`` are pointers to the frame's moves, whose window is ``first`` to ``last``."""
    position, on_label = state // 2, state % 2 == 1
    on &= (position >= first) & (position <= last)
    word = tl.load(row + position // POSITIONS_OF_A_WORD - first // POSITIONS_OF_A_WORD, mask=on, other=0)
    move = word >> (4 * (position % POSITIONS_OF_A_WORD))
    onto_label, onto_blank = move & 3, (move & 4) != 0
    # Onto a label: from itself, from the blank before it, from the label before that.
    of_label = tl.where(onto_label == 0, state, tl.where(onto_label == 1, state - 1, state - 2))
    return tl.maximum(tl.where(on_label, of_label, tl.where(onto_blank, state - 1, state)), 0)


@triton.jit
def _last_frame(chunk, frames, FRAMES: tl.constexpr):
    return tl.minimum(chunk * FRAMES + FRAMES, frames) - 1


@triton.jit
def ctc_maps_kernel(
    moves, maps_out, logit_lengths, target_lengths, offsets, frames_room, batch, labels_room, chunks, band,
    BANDED: tl.constexpr, FRAMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """For each chunk but the first and each state of its last frame's window, the state before the chunk."""
    pid = tl.program_id(0).to(tl.int64)
    n = pid % batch
    chunk = (pid // batch % (chunks - 1) + 1).to(tl.int32)
    block = (pid // batch // (chunks - 1)).to(tl.int32) * BLOCK
    frames, _ = find_frames(n, logit_lengths, frames_room)
    at, labels, _, _, _ = find_target(n, target_lengths, offsets, labels_room)
    t = _last_frame(chunk, frames, FRAMES)
    first, last = window(t, frames, labels, band, BANDED)
    states = 2 * (last - first + 1)
    if (chunk * FRAMES >= frames) | (block >= states):
        return
    base, words = moves_of(n, at, labels, frames_room, band, BANDED)
    slot = block + tl.arange(0, BLOCK)
    on = slot < states
    state = 2 * first + slot
    for back in range(t + 1 - chunk * FRAMES):
        first, last = window(t - back, frames, labels, band, BANDED)
        state = _back(state, on, moves + base + words * (t - back), first, last)
    base, width = maps_of(n, at, labels, chunks, band, BANDED)
    tl.store(maps_out + base + chunk * width + slot, state, mask=on)


@triton.jit
def ctc_chain_kernel(
    maps, best, end, log_sum, total_out, ends_out, targets, logit_lengths, target_lengths, offsets, frames_room,
    labels_room, classes, chunks, star, band,
    HAS_STAR: tl.constexpr, BANDED: tl.constexpr, FRAMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Total of an utterance; the path's state at the end of each of its chunks, -1 without a path, ``[N, chunks]``."""
    n = tl.program_id(0).to(tl.int64)
    frames, frame_fault = find_frames(n, logit_lengths, frames_room)
    at, labels, first_label, _, label_fault = find_target(n, target_lengths, offsets, labels_room)
    sums = tl.zeros([BLOCK], tl.float64)
    for first in range(0, frames, BLOCK):
        frame = first + tl.arange(0, BLOCK)
        sums += tl.load(log_sum + n * frames_room + frame, mask=frame < frames, other=0.0)
    bad = tl.zeros([BLOCK], tl.int32)
    for first in range(0, labels, BLOCK):
        j = first + tl.arange(0, BLOCK)
        label = tl.load(targets + first_label + j, mask=j < labels, other=0)
        outside = (label < 0) | (label >= classes)
        if HAS_STAR:
            outside &= label != star
        bad = tl.maximum(bad, (outside & (j < labels)).to(tl.int32))
    shared = tl.sum(sums, 0)
    # A NaN or +inf logit in any frame has made its log-sum NaN.
    fault = frame_fault | label_fault | (tl.max(bad, 0) > 0) | (shared != shared)
    score = tl.load(best + n)
    is_found = (score > float("-inf")) & (fault == 0)
    total = tl.where(is_found, score - shared, tl.where(fault, float("nan"), float("-inf")))
    tl.store(total_out + n, total.to(tl.float32))

    state = tl.where(is_found, tl.load(end + n), -1)
    base, width = maps_of(n, at, labels, chunks, band, BANDED)
    used = tl.cdiv(frames, FRAMES)
    for back in range(used):
        chunk = used - 1 - back
        tl.store(ends_out + n * chunks + chunk, state)
        lowest, _highest = window(_last_frame(chunk, frames, FRAMES), frames, labels, band, BANDED)
        earlier = tl.load(maps + base + chunk * width + state - 2 * lowest, mask=is_found & (chunk > 0), other=-1)
        state = earlier


@triton.jit
def ctc_path_kernel(
    moves, scores, log_sum, ends, paths_out, states_out, scores_out, targets, logit_lengths, target_lengths, offsets,
    frames_room, batch, labels_room, chunks, blank, band,
    BANDED: tl.constexpr, FRAMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Class, target position and score of each frame: BLOCK chunks of an utterance at once, each from its end."""
    pid = tl.program_id(0).to(tl.int64)
    n = pid % batch
    chunk = pid // batch * BLOCK + tl.arange(0, BLOCK)
    frames, _ = find_frames(n, logit_lengths, frames_room)
    at, labels, first_label, _, _ = find_target(n, target_lengths, offsets, labels_room)
    state = tl.load(ends + n * chunks + chunk, mask=chunk * FRAMES < frames, other=-1)
    is_found = state >= 0
    base, words = moves_of(n, at, labels, frames_room, band, BANDED)
    moves += base
    base, stride = scores_of(n, at, labels, frames_room, band, BANDED)
    scores += base
    for back in range(FRAMES):
        t = chunk * FRAMES + (FRAMES - 1 - back)
        on = is_found & (t < frames)
        first, last = window(t, frames, labels, band, BANDED)
        position, on_label = state // 2, state % 2 == 1
        label = tl.load(targets + first_label + position, mask=on & on_label, other=-1).to(tl.int64)
        slot = tl.where(on_label, 1 + position - first, 0)
        score = tl.load(scores + t * stride + slot, mask=on, other=0.0).to(tl.float64)
        score -= tl.load(log_sum + n * frames_room + t, mask=on, other=0.0).to(tl.float64)
        to = n * frames_room + t
        exists = t < frames_room
        tl.store(paths_out + to, tl.where(on, tl.where(on_label, label, blank), -1), mask=exists)
        tl.store(states_out + to, tl.where(on & on_label, position, -1), mask=exists)
        tl.store(scores_out + to, tl.where(on, score, 0.0).to(tl.float32), mask=exists)
        state = tl.where(on, _back(state, on, moves + t * words, first, last), state)
