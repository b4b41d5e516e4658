"""Host code: allocate, pick a tile, launch."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.targets import current_target
from lisa_kernels.core.tiling import pick
from tests.specimens.swiglu import kernels
from tests.specimens.swiglu.tiles import TILES


def refuse(named: dict) -> str | None:
    dtype = named["gate"].dtype
    return "fp64; it takes fp32, bf16 and fp16" if dtype == torch.float64 else None


def forward(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    tile = pick(TILES, current_target(gate.device), gate.numel())
    launch(kernels.swiglu_fwd_kernel, _grid(gate, tile), gate, up, out, gate.numel(), tile=tile)
    return out


def backward(grad_out: Tensor, gate: Tensor, up: Tensor, needs: list[bool]) -> tuple[Tensor, Tensor]:
    gate, up = gate.contiguous(), up.contiguous()
    grad_gate = torch.empty_like(gate) if needs[0] else gate.new_empty(0)
    grad_up = torch.empty_like(up) if needs[1] else up.new_empty(0)
    tile = pick(TILES, current_target(gate.device), gate.numel())
    launch(
        kernels.swiglu_bwd_kernel, _grid(gate, tile), grad_out, gate, up, grad_gate, grad_up, gate.numel(),
        tile=tile, NEED_GATE=needs[0], NEED_UP=needs[1],
    )  # fmt: skip
    return grad_gate, grad_up


def _grid(gate: Tensor, tile) -> tuple[int]:
    return (-(-gate.numel() // tile.BLOCK),)
