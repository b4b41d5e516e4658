"""The spec: cases on both sides of a block's end."""

from __future__ import annotations

from typing import Any

import torch

from lisa_kernels.core.spec import BadInput, Case, OpSpec
from tests.specimens.swiglu import reference
from tests.specimens.swiglu.op import explain, specimen_swiglu


def _inputs(case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    def random() -> torch.Tensor:
        x = torch.randn(case["T"], case["D"], generator=generator)
        return (x * 30 if case.edge == "large" else x).to(device, dtype)

    return {"gate": random(), "up": random()}


def _bytes(case: Case, dtype: torch.dtype) -> tuple[int, int]:
    tensor = case["T"] * case["D"] * dtype.itemsize
    return 3 * tensor, 5 * tensor


SPECS = (
    OpSpec(
        "specimen_swiglu",
        function=specimen_swiglu,
        explain=explain,
        reference=reference.swiglu,
        inputs=_inputs,
        differentiable=("gate", "up"),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
        cases=(
            Case("odd", {"T": 7, "D": 11}),
            Case("a block and one", {"T": 1, "D": 513}),
            Case("several blocks", {"T": 3, "D": 2731}),
        ),
        full=(),
        edges=(Case("empty", {"T": 0, "D": 4}), Case("large values", {"T": 4, "D": 40}, edge="large")),
        bad_inputs=(
            BadInput("shapes", lambda good: {**good, "up": good["up"][:1]}, ValueError, "up has shape (1, 11)"),
        ),
        bench=(Case("llama 8B", {"T": 4096, "D": 14336}), Case("small", {"T": 2, "D": 1024})),
        depth=lambda case: 8,
        limit=lambda name, dtype: None,
        flops=lambda case: 15.0 * case["T"] * case["D"],
        bytes=_bytes,
        traffic=lambda kwargs: (kwargs["gate"], torch.empty_like(kwargs["gate"])),
    ),
)
