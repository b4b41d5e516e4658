"""``silu(gate) * up`` in plain PyTorch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import silu


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return silu(gate) * up


def forward(gate: Tensor, up: Tensor) -> Tensor:
    return swiglu(gate, up).contiguous()


def backward(grad_out: Tensor, gate: Tensor, up: Tensor, needs: list[bool]) -> tuple[Tensor, Tensor]:
    sigmoid = gate.sigmoid()
    grad_gate = grad_out * up * sigmoid * (1 + gate * (1 - sigmoid)) if needs[0] else gate.new_empty(0)
    grad_up = grad_out * gate * sigmoid if needs[1] else up.new_empty(0)
    return grad_gate.contiguous(), grad_up.contiguous()
