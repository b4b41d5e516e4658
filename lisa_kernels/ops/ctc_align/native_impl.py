"""Host code of the C++ kernels, for the CPU and for NVIDIA GPUs."""

from __future__ import annotations

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
    return native.call(
        "ctc_align", "fwd", dense_rows(logits), targets, logit_lengths, target_lengths, log_priors, blank, star,
        star_penalty, band, on=logits,
    )  # fmt: skip
