"""Host code of the CUDA C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_kernels.core import native


def refuse(named: dict) -> str | None:
    dtype = named["gate"].dtype
    return None if dtype == torch.float32 else f"{dtype}; it takes fp32"


def forward(gate: Tensor, up: Tensor) -> Tensor:
    return native.ops().specimen_swiglu_fwd(gate.contiguous(), up.contiguous(), native.stream(gate))


def backward(grad_out: Tensor, gate: Tensor, up: Tensor, needs: list[bool]) -> tuple[Tensor, Tensor]:
    gate, up = gate.contiguous(), up.contiguous()
    return native.ops().specimen_swiglu_bwd(grad_out, gate, up, *needs, native.stream(gate))
