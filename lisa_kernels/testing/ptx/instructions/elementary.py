"""Approximate elementary functions (PTX ISA, section "Floating-Point Instructions": rsqrt, sin, cos, lg2, ex2, tanh).

They are computed in float64 and rounded: the device's own errors, up to some ulps, are not modelled.
"""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.floating import compute
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction

_FUNCTIONS = {
    "rsqrt": lambda value: 1 / np.sqrt(value),
    "sin": np.sin,
    "cos": np.cos,
    "lg2": np.log2,
    "ex2": np.exp2,
    "tanh": np.tanh,
}


@instruction(
    "rsqrt.approx[.ftz].(f32|f64)", "sin.approx[.ftz].f32", "cos.approx[.ftz].f32", "lg2.approx[.ftz].f32",
    "ex2.approx[.ftz].(f32|bf16|bf16x2)", "ex2.approx.(f16|f16x2)", "tanh.approx.(f32|f16|f16x2|bf16|bf16x2)",
)  # fmt: skip
def elementary(block: Block, inst: Instruction) -> None:
    compute(block, inst, lambda value: _FUNCTIONS[inst.opcode](value.astype(np.float64)))
