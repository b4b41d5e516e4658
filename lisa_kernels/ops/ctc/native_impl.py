"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import native
from lisa_kernels.ops.ctc.reference import used_options

# States of the recursion up to this size are kept for all frames; beyond it they are recomputed from checkpoints, and
# memory grows with the square root of the frames.
KEPT_BYTES = 64 << 20


def refuse(named: dict[str, Any]) -> str | None:
    """Return why these kernels cannot run a call, or None."""
    if used := used_options(named):
        kind = "CUDA" if _on_cuda(named["logits"]) else "CPU"
        return f"{' and '.join(used)}; the {kind} kernels compute the plain loss"
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
    args = (_dense_classes(logits), targets, logit_lengths, target_lengths, blank, zero_infinity, save)
    if _on_cuda(logits):
        with _device_of(logits):
            loss, row_max, log_sum, occupancy = native.ops().ctc_loss_cuda_fwd(*args, KEPT_BYTES, native.stream(logits))
    else:
        loss, row_max, log_sum, occupancy = torch.ops.lisa_C.ctc_loss_fwd(*args)
    none = loss.new_empty(0)
    return loss, none, none.clone(), row_max, log_sum, none.clone(), none.clone(), occupancy


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
    args = (
        grad_loss, _dense_classes(logits), targets, target_lengths, row_max, log_sum, occupancy, blank, dense,
    )  # fmt: skip
    if _on_cuda(logits):
        with _device_of(logits):
            native.ops().ctc_loss_cuda_bwd(*args, native.stream(logits))
    else:
        torch.ops.lisa_C.ctc_loss_bwd(*args)
    return grad_logits if dense is grad_logits else grad_logits.copy_(dense)


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
