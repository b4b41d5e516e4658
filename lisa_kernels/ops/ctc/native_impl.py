"""Host code of the C++ kernels: hands the call to ``torch.ops.lisa_C``."""

from __future__ import annotations

import torch
from torch import Tensor


def forward(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    zero_infinity: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.lisa_C.ctc_loss_fwd(
        _dense_classes(logits), targets, logit_lengths, target_lengths, blank, zero_infinity, save
    )


def backward(
    grad_loss: Tensor,
    logits: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    row_max: Tensor,
    log_sum: Tensor,
    occupancy: Tensor,
    blank: int,
    needs: list[bool],
) -> Tensor:
    # Strided like the logits: the usual model hands over a transposed [N, T, C] and gets it back without a copy.
    grad_logits = torch.empty_like(logits)
    dense = grad_logits if _is_dense(grad_logits) else torch.empty_like(logits, memory_format=torch.contiguous_format)
    torch.ops.lisa_C.ctc_loss_bwd(
        grad_loss, _dense_classes(logits), targets, target_lengths, row_max, log_sum, occupancy, blank, dense
    )
    return grad_logits if dense is grad_logits else grad_logits.copy_(dense)


def _is_dense(logits: Tensor) -> bool:
    """Whether a row of classes is contiguous, as the kernels need it."""
    return logits.stride(-1) == 1 or logits.shape[-1] == 1


def _dense_classes(logits: Tensor) -> Tensor:
    return logits if _is_dense(logits) else logits.contiguous()
