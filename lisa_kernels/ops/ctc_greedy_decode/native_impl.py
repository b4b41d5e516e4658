"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_kernels.core import native
from lisa_kernels.core.rows import dense_rows


def forward(logits: Tensor, logit_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    args = (dense_rows(logits), logit_lengths, blank)
    if native.is_redirected():
        return native.ops().ctc_greedy_decode_cuda_fwd(*args, 0)
    if not logits.is_cuda:
        return torch.ops.lisa_C.ctc_greedy_decode_fwd(*args)
    # Kernels are launched on the current device, which must be that of the tensors.
    with torch.cuda.device(logits.device):
        return native.ops().ctc_greedy_decode_cuda_fwd(*args, native.stream(logits))
