"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import native

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
    logits = _dense_classes(logits)
    if not _on_cuda(logits):
        return torch.ops.lisa_C.ctc_loss_fwd(
            logits, targets, logit_lengths, target_lengths, log_priors, blank, star, star_penalty, zero_infinity,
            with_entropy, with_consistency, save,
        )  # fmt: skip
    with _device_of(logits):
        return native.ops().ctc_loss_cuda_fwd(
            logits, targets, logit_lengths, target_lengths, log_priors, blank, star, star_penalty, zero_infinity,
            with_entropy, with_consistency, save, KEPT_BYTES, native.stream(logits),
        )  # fmt: skip


def backward(
    grad_loss: Tensor,
    grad_entropy: Tensor,
    grad_consistency: Tensor,
    logits: Tensor,
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
) -> Tensor:
    # Strided like the logits: the usual model hands over a transposed [N, T, C] and gets it back without a copy.
    grad_logits = torch.empty_like(logits)
    dense = grad_logits if _is_dense(grad_logits) else torch.empty_like(logits, memory_format=torch.contiguous_format)
    _write_gradient(
        dense, grad_loss, grad_entropy, grad_consistency, _dense_classes(logits), targets, target_lengths, row_max,
        log_sum, row_entropy, star_rows, occupancy, blank, star, with_entropy, with_consistency,
    )  # fmt: skip
    return grad_logits if dense is grad_logits else grad_logits.copy_(dense)


def backward_overwriting(
    grad_loss: Tensor,
    grad_entropy: Tensor,
    grad_consistency: Tensor,
    logits: Tensor,
    *rest: Any,
) -> None:
    """Write the gradient over ``logits``: the kernels read a row wholly before they write it."""
    dense = _dense_classes(logits)
    _write_gradient(dense, grad_loss, grad_entropy, grad_consistency, dense, *rest[:-1])
    if dense is not logits:
        logits.copy_(dense)


def _write_gradient(
    grad_logits: Tensor,
    grad_loss: Tensor,
    grad_entropy: Tensor,
    grad_consistency: Tensor,
    logits: Tensor,
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
) -> None:
    """Run the kernel on logits and gradient with dense classes; they may be one tensor."""
    if not _on_cuda(logits):
        torch.ops.lisa_C.ctc_loss_bwd(
            grad_loss, grad_entropy, grad_consistency, logits, targets, target_lengths, row_max, log_sum, row_entropy,
            star_rows, occupancy, blank, star, with_entropy, with_consistency, grad_logits,
        )  # fmt: skip
        return
    with _device_of(logits):
        native.ops().ctc_loss_cuda_bwd(
            grad_loss, grad_entropy, grad_consistency, logits, targets, target_lengths, row_max, log_sum, row_entropy,
            star_rows, occupancy, blank, star, with_entropy, with_consistency, grad_logits, native.stream(logits),
        )  # fmt: skip


def _on_cuda(logits: Tensor) -> bool:
    """Whether the CUDA kernels run: on a GPU, or on CPU tensors where they are built to run without one."""
    return logits.is_cuda or native.is_redirected()


def _device_of(logits: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Kernels are launched on the current device, which must be that of the tensors."""
    return torch.cuda.device(logits.device) if logits.is_cuda else contextlib.nullcontext()


def _is_dense(logits: Tensor) -> bool:
    """Whether a row of classes is contiguous, as the kernels need it."""
    return logits.stride(-1) == 1 or logits.shape[-1] == 1


def _dense_classes(logits: Tensor) -> Tensor:
    return logits if _is_dense(logits) else logits.contiguous()
