"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from lisa_kernels.core import native
from lisa_kernels.core.rows import dense_rows


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
    tensors = dense_rows(logits), targets, logit_lengths, target_lengths, log_priors
    args = *tensors, blank, star, star_penalty, band
    if not (logits.is_cuda or native.is_redirected()):
        return torch.ops.lisa_C.ctc_align_fwd(*args)
    # Kernels are launched on the current device, which must be that of the tensors.
    with torch.cuda.device(logits.device) if logits.is_cuda else contextlib.nullcontext():
        return native.ops().ctc_align_cuda_fwd(*args, native.stream(logits))
