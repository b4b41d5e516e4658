"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lisa_kernels.core import native
from lisa_kernels.core.rows import dense_rows, write_like, write_over

# States of the recursion up to this size are kept for all frames; beyond it they are recomputed from checkpoints, and
# memory grows with the square root of the frames.
KEPT_BYTES = 64 << 20


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
    return native.call(
        "ctc_loss", "fwd", dense_rows(logits), targets, logit_lengths, target_lengths, log_priors, blank, star,
        star_penalty, zero_infinity, with_entropy, with_consistency, save, on=logits, cuda_args=(KEPT_BYTES,),
    )  # fmt: skip


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
        native.call(
            "ctc_loss", "bwd", grad_loss, grad_entropy, grad_consistency, logits, targets, target_lengths, row_max,
            log_sum, row_entropy, star_rows, occupancy, blank, star, with_entropy, with_consistency, grad_logits,
            on=logits,
        )  # fmt: skip

    return write
