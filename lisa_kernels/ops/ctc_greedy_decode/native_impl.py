"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

from torch import Tensor

from lisa_kernels.core import native
from lisa_kernels.core.rows import dense_rows


def forward(logits: Tensor, logit_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return native.call("ctc_greedy_decode", "fwd", dense_rows(logits), logit_lengths, blank, on=logits)
