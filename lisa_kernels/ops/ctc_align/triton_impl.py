"""Host code of the Triton kernels: allocate, pick tiles, launch.  Nothing on the device is read here.

Scratch: search scores, 4 bytes a position of a window and frame; moves, half a byte; maps, an eighth of one; where a
program does not hold a whole window 32 bytes a position.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.rows import dense_rows, in_vectors, vector_elements
from lisa_kernels.core.targets import current_target
from lisa_kernels.core.tiling import pick
from lisa_kernels.ops.ctc.triton_target import target_offsets
from lisa_kernels.ops.ctc_align import kernels, kernels_search, kernels_trace, kernels_window, tiles


def refuse(named: dict[str, Any]) -> str | None:
    """Return why these kernels cannot run a call, or None."""
    if named["logits"].dtype == torch.float64:
        return "float64 logits; its search scores are float32: use the cuda, cpu or reference backend"
    return None


def forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    log_priors: Tensor | None,
    blank: int,
    star: int | None,
    star_penalty: float,
    band: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = dense_rows(logits)
    frames, batch, classes = logits.shape
    device = current_target(logits.device)
    empty = functools.partial(torch.empty, device=logits.device)
    # Labels that one target may have by the shapes alone.
    labels_room = targets.shape[-1]
    options = {"BANDED": band is not None}
    # The kernels take no None for a number.
    has_star, star, reach = star is not None, star or 0, band or 0
    rooms = _Rooms(targets.numel(), batch, band)
    lengths = logit_lengths, target_lengths, target_offsets(targets, target_lengths)

    tile = pick(tiles.ROWS, device, classes)
    scores = empty(frames * rooms.per_frame(1), dtype=torch.float32)
    log_sum = empty((batch, frames), dtype=torch.float32)
    launch(
        kernels.ctc_scores_kernel, (-(-frames // tile.ROWS) * batch,), logits, scores, log_sum, targets, *lengths,
        log_priors, frames, batch, labels_room, *in_vectors(logits), blank, star, star_penalty, reach, tile=tile,
        VECTOR=vector_elements(logits), HAS_STAR=has_star, ONE_BLOCK=classes <= tile.BLOCK, **options,
    )  # fmt: skip

    # A window begins anywhere in a word of moves.
    held = labels_room if band is None else min(labels_room, 2 * band + kernels_window.POSITIONS_OF_A_WORD.value - 1)
    tile = pick(tiles.SEARCH, device, held)
    resident = held < tile.BLOCK
    moves = empty(frames * rooms.words(), dtype=torch.int32)
    best, end = empty(batch, dtype=torch.float64), empty(batch, dtype=torch.int32)
    rows = empty(0 if resident else 4 * (targets.numel() + batch), dtype=torch.float64)
    launch(
        kernels_search.ctc_search_kernel, (batch,), scores, moves, best, end, rows, targets, *lengths, frames,
        labels_room, reach, tile=tile, RESIDENT=resident, **options,
    )  # fmt: skip

    tile, chain_tile = pick(tiles.TRACE, device, frames), pick(tiles.CHAIN, device, frames)
    chunks = -(-frames // tile.FRAMES)
    states = 2 * (labels_room + 1 if band is None else min(labels_room + 1, 2 * band + 1))
    maps = empty(2 * chunks * rooms.per_frame(0), dtype=torch.int32)
    if chunks > 1:
        launch(
            kernels_trace.ctc_maps_kernel, (batch * (chunks - 1) * -(-states // tile.BLOCK),), moves, maps, *lengths,
            frames, batch, labels_room, chunks, reach, tile=tile, **options,
        )  # fmt: skip
    ends = empty((batch, chunks), dtype=torch.int32)
    total = empty(batch, dtype=torch.float32)
    launch(
        kernels_trace.ctc_chain_kernel, (batch,), maps, best, end, log_sum, total, ends, targets, *lengths, frames,
        labels_room, classes, chunks, star, reach, tile=chain_tile, FRAMES=tile.FRAMES, HAS_STAR=has_star, **options,
    )  # fmt: skip
    paths, path_states = empty((batch, frames), dtype=torch.int64), empty((batch, frames), dtype=torch.int32)
    path_scores = empty((batch, frames), dtype=torch.float32)
    launch(
        kernels_trace.ctc_path_kernel, (batch * -(-chunks // tile.BLOCK),), moves, scores, log_sum, ends, paths,
        path_states, path_scores, targets, *lengths, frames, batch, labels_room, chunks, blank, reach, tile=tile,
        **options,
    )  # fmt: skip
    return paths, path_states, path_scores, total


class _Rooms:
    """What the windows of all utterances may take in a frame, as ``kernels_window`` lays them out."""

    def __init__(self, labels: int, batch: int, band: int | None) -> None:
        self._labels, self._batch, self._band = labels, batch, band

    def per_frame(self, more: int) -> int:
        """Return entries for each position, and ``more`` for each utterance with a band."""
        room = self._labels + self._batch
        return room if self._band is None else min(room, self._batch * (2 * self._band + 1 + more))

    def words(self) -> int:
        """Return words of moves."""
        width = kernels_window.POSITIONS_OF_A_WORD.value
        room = self._labels // width + self._batch
        return room if self._band is None else min(room, self._batch * ((2 * self._band + width - 1) // width + 1))
