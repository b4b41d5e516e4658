"""Schemas, fakes and the public function."""

from __future__ import annotations

import torch
from torch import Tensor

from lisa_kernels.core.dispatch import Explanation
from lisa_kernels.core.library import define_op


def _fake_forward(gate: Tensor, up: Tensor) -> Tensor:
    return torch.empty_like(gate, memory_format=torch.contiguous_format)


def _fake_backward(grad_out: Tensor, gate: Tensor, up: Tensor, needs: list[bool]) -> tuple[Tensor, Tensor]:
    return tuple(_fake_forward(x, x) if need else x.new_empty(0) for x, need in zip((gate, up), needs, strict=True))


_OP = define_op(
    "specimen_swiglu",
    package=__package__,
    forward="(Tensor gate, Tensor up) -> (Tensor out)",
    backward="(Tensor grad_out, Tensor gate, Tensor up, bool[] needs) -> (Tensor grad_gate, Tensor grad_up)",
    fakes=(_fake_forward, _fake_backward),
    backends=("cuda", "triton", "reference"),
)


def specimen_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``; both have one shape and dtype."""
    if gate.shape != up.shape:
        raise ValueError(f"specimen_swiglu: up has shape {tuple(up.shape)}; it must have that of gate.")
    return _OP(gate, up)[0]


def explain(gate: Tensor, up: Tensor) -> Explanation:
    """Return which backend runs the call."""
    return _OP.explain(gate, up)
