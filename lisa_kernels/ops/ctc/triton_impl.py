"""Host code of the Triton kernels: allocate, pick tiles, launch.  Nothing on the device is read here.

Scratch of forward: emissions, 8 bytes a position and frame; states, 16 bytes a position and frame up to 64 MiB, beyond
it 32 bytes a position for some 2 * sqrt(T / 2) frames; where occupancies are stored by class, 4 bytes a position and
frame more.  At T = 1500, N = 32, S = 200: 77 MB, 12 MB, and 39 MB that are saved.  Backward: 4 bytes a position, and 2
bytes (4 beyond 32767 labels) a class and utterance.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.rows import dense_rows, in_vectors, vector_elements, write_like, write_over
from lisa_kernels.core.targets import current_target
from lisa_kernels.core.tiling import AnyTile, pick
from lisa_kernels.ops.ctc import (
    kernels_grad,
    kernels_occupancy,
    kernels_recursion,
    kernels_rows,
    kernels_target,
    kernels_terms,
    tiles,
)
from lisa_kernels.ops.ctc.packing import stored_by_class
from lisa_kernels.ops.ctc.triton_target import target_offsets

# States of all frames up to this size are kept, more are recomputed from checkpoints.
_STORED_BYTES = 64 << 20


def refuse(named: dict[str, Any]) -> str | None:
    """Return why these kernels cannot run a call, or None."""
    if named["logits"].dtype == torch.float64:
        return "float64 logits; its states and emissions are float32: use the cuda, cpu or reference backend"
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
    zero_infinity: bool,
    with_entropy: bool,
    with_consistency: bool,
    overwrite_logits: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    logits = dense_rows(logits)
    problem = _Problem(logits, targets, target_lengths, blank)
    frames, batch, classes = logits.shape
    floats = functools.partial(torch.empty, dtype=torch.float32, device=logits.device)
    integers = functools.partial(torch.empty, dtype=torch.int32, device=logits.device)
    loss, row_max, log_sum = floats(batch), floats(frames, batch), floats(frames, batch)
    row_entropy = floats((frames, batch) if with_entropy else 0)
    row_divergence = floats((frames, batch) if with_consistency else 0)
    star_rows = floats(0 if star is None else (2, frames, batch))

    entries = frames * problem.positions_room
    emissions, emission_exponents = floats(entries), integers(entries)
    tile = pick(tiles.ROWS, problem.device, classes)
    rows_tile = _halved(tile, "ROWS") if with_consistency else tile
    views = batch // 2 if with_consistency else batch
    launch(
        kernels_rows.ctc_rows_kernel, problem.rows_grid(rows_tile.ROWS, views), logits, row_max, log_sum, row_entropy,
        row_divergence, star_rows, emissions, emission_exponents, log_priors, targets, logit_lengths, *problem.target,
        frames, batch, problem.labels_room, *in_vectors(logits), blank, star, None if star is None else star_penalty,
        tile=rows_tile, VECTOR=vector_elements(logits), ONE_BLOCK=classes <= rows_tile.BLOCK, ENTROPY=with_entropy,
        CONSISTENCY=with_consistency,
    )  # fmt: skip

    storage = _Storage.of(frames, problem.positions_room, save=save)
    states = storage.rows * 4 * problem.positions_room
    mantissas, exponents = floats(states), integers(states)
    walk = (emissions, emission_exponents, targets, logit_lengths, *problem.target, frames)
    launch(
        kernels_recursion.ctc_meet_kernel, (2 * batch,), mantissas, exponents, *walk, problem.labels_room,
        storage.chunk, storage.rows, tile=problem.states_tile, SAVE=save, RESIDENT=problem.resident,
    )  # fmt: skip
    by_class = stored_by_class(targets, batch, classes)
    occupancy = floats((frames * batch * classes if by_class else entries) if save else 0)
    joint = floats(entries) if save and by_class else occupancy
    launch(
        kernels_recursion.ctc_part_kernel, (2 * batch,), loss, row_max, log_sum, joint, mantissas, exponents, *walk,
        batch, problem.labels_room, storage.chunk, storage.rows, classes, star, tile=problem.states_tile,
        ZERO_INFINITY=zero_infinity, SAVE=save, RESIDENT=problem.resident,
    )  # fmt: skip
    if save:
        links = problem.links() if by_class else (None, None)
        launch(
            kernels_occupancy.ctc_occupancy_kernel, problem.rows_grid(tile.ROWS, batch), joint, occupancy, star_rows,
            log_sum, *links, targets, logit_lengths, *problem.target, frames, batch, problem.labels_room,
            targets.numel(), classes, star, tile=tile, BY_CLASS=by_class,
        )  # fmt: skip
    entropy, consistency = floats(batch if with_entropy else 0), floats(batch if with_consistency else 0)
    if with_entropy or with_consistency:
        launch(
            kernels_terms.ctc_terms_kernel, (batch,), entropy, consistency, row_entropy, row_divergence, log_sum,
            frames, batch, tile=pick(tiles.TERMS, problem.device, frames), ENTROPY=with_entropy,
            CONSISTENCY=with_consistency,
        )  # fmt: skip
    return loss, entropy, consistency, row_max, log_sum, row_entropy, star_rows, occupancy


def backward(grad_loss: Tensor, grad_entropy: Tensor, grad_consistency: Tensor, logits: Tensor, *rest: Any) -> Tensor:
    return write_like(logits, _writer(grad_loss, grad_entropy, grad_consistency, *rest))


def backward_overwriting(
    grad_loss: Tensor, grad_entropy: Tensor, grad_consistency: Tensor, logits: Tensor, *rest: Any
) -> None:
    """Write the gradient over ``logits``, whose elements the kernels read before they write there."""
    write_over(logits, _writer(grad_loss, grad_entropy, grad_consistency, *rest))


def _writer(
    grad_loss: Tensor,
    grad_entropy: Tensor,
    grad_consistency: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    row_max: Tensor,
    log_sum: Tensor,
    row_entropy: Tensor,
    star_rows: Tensor,
    occupancy: Tensor,
    blank: int,
    star: int | None,
    with_entropy: bool,
    with_consistency: bool,
    needs: list[bool],
) -> Callable[[Tensor, Tensor], None]:
    """Return what writes the gradient of logits, both with dense rows; they may be one tensor."""

    def write(logits: Tensor, grad_logits: Tensor) -> None:
        problem = _Problem(logits, targets, target_lengths, blank)
        frames, batch, classes = logits.shape
        by_class = stored_by_class(targets, batch, classes)
        links = (None, None) if by_class else problem.links()
        vector = vector_elements(logits, grad_logits)
        tile = pick(tiles.GRAD if vector > 1 else tiles.GRAD_SINGLE, problem.device, classes)
        views = batch // 2 if with_consistency else batch
        tile = _halved(tile, "BLOCK") if with_consistency else tile
        launch(
            kernels_grad.ctc_grad_kernel, problem.rows_grid(tile.ROWS, views), grad_loss, grad_entropy,
            grad_consistency, logits, row_max, log_sum, row_entropy, star_rows, occupancy, *links, *problem.target,
            grad_logits, frames, batch, problem.labels_room, *in_vectors(logits, grad_logits), blank, tile=tile,
            VECTOR=vector, BY_CLASS=by_class, STAR=star is not None, ENTROPY=with_entropy,
            CONSISTENCY=with_consistency,
        )  # fmt: skip

    return write


def _halved(tile: AnyTile, size: str) -> AnyTile:
    """Return a tile for two views, which fill a program like one utterance fills the given one."""
    return dataclasses.replace(tile, **{size: getattr(tile, size) // 2})


class _Problem:
    """Shapes, tiles and the arrays of positions of one call."""

    def __init__(self, logits: Tensor, targets: Tensor, target_lengths: Tensor, blank: int) -> None:
        self.frames, self.batch, self.classes = logits.shape
        self.targets, self.blank = targets, blank
        # Labels that one target may have by the shapes alone.
        self.labels_room = targets.shape[-1]
        self.positions_room = targets.numel() + self.batch
        self.device = current_target(logits.device)
        # What find_target takes.
        self.target = (target_lengths, target_offsets(targets, target_lengths))
        self.states_tile = pick(tiles.STATES, self.device, self.labels_room)
        # One warp holds all states of an utterance.
        self.resident = self.states_tile.num_warps == 1 and self.labels_room < self.states_tile.BLOCK

    def rows_grid(self, rows: int, utterances: int) -> tuple[int]:
        """Return the grid of programs that take ``rows`` frames of an utterance, or of both views of one."""
        return (-(-self.frames // rows) * utterances,)

    def links(self) -> tuple[Tensor, Tensor]:
        """Return the next position of the same class for each position, and each class's first, ``[N, C]``."""
        following = torch.empty(self.positions_room, dtype=torch.int32, device=self.targets.device)
        # Read by every program of the gradient: as narrow as positions allow.
        narrow = torch.int16 if self.labels_room < 2**15 else torch.int32
        first_position = torch.empty((self.batch, self.classes), dtype=narrow, device=self.targets.device)
        tile = pick(tiles.LINKS, self.device, self.labels_room)
        blocks = -(-(self.labels_room + 1) // tile.BLOCK) - (-self.classes // tile.BLOCK)
        launch(
            kernels_target.ctc_links_kernel, (blocks * self.batch,), self.targets, *self.target, following,
            first_position, self.batch, self.labels_room, self.classes, self.blank, tile=tile,
        )  # fmt: skip
        return following, first_position


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Rows of states of one direction, as ``kernels_recursion`` lays them out."""

    chunk: int
    rows: int

    @classmethod
    def of(cls, frames: int, positions: int, *, save: bool) -> _Storage:
        if not save:
            return cls(1, 2 + kernels_recursion.EXTRA_ROWS.value)
        half = -(-frames // 2)
        # 8 bytes each for a blank and a label, in two directions.
        fits = 32 * half * positions <= _STORED_BYTES
        chunk = half + 1 if fits else math.isqrt(half) + 1
        return cls(chunk, chunk - 1 + half // chunk + 1 + kernels_recursion.EXTRA_ROWS.value)
