"""Floating-point arithmetic with exact rounding (PTX ISA, sections "Floating-Point Instructions", "Half Precision",
"Mixed Precision").

Every result is rounded once, as the ISA asks, also where numpy has no instruction for it: the sum is computed in
float64, the lost part found, and the last bit made odd where something was lost (Boldo and Melquiond 2008).
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.notation import ROUNDING
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Operand
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import (
    PACKED,
    STORAGE,
    decode,
    encode,
    flush_subnormals,
    saturate,
)

_ROUNDINGS = ("rz", "rm", "rp")
_HALF = "(f16|bf16|f16x2|bf16x2)"


def compute(
    block: Block,
    inst: Instruction,
    function: Callable[..., np.ndarray],
    operands: tuple[Operand, ...] | None = None,
) -> None:
    """Apply a function to float operands and write the rounded result, element by element for packed types.

    Args:
        function: Gets float32 or float64 arrays and returns the exact result, or one that rounding again leaves right.
        operands: Sources; None for all after the destination.
    """
    sources = inst.operands[1:] if operands is None else operands
    # Mixed precision: the last source and the result are f32, the type named last is that of the other sources.
    result_type = "f32" if inst.modifiers[-2:-1] == ("f32",) else inst.type
    element = PACKED.get(result_type, result_type)
    types = [*[inst.type] * (len(sources) - 1), result_type]
    arguments = [_elements(block, operand, name) for operand, name in zip(sources, types, strict=True)]
    if "ftz" in inst.modifiers:
        arguments = [flush_subnormals(values, element) for values in arguments]
    result = function(*arguments)
    if "sat" in inst.modifiers:
        result = saturate(result)
    if "relu" in inst.modifiers:
        result = np.where(np.isnan(result), result, np.maximum(result, 0))
    rounding = next((mode for mode in _ROUNDINGS if mode in inst.modifiers), "rn")
    stored = encode(result, element, rounding)
    if "ftz" in inst.modifiers:
        stored = encode(flush_subnormals(decode(stored, element), element), element)
    block.write(inst.operands[0], stored if element == result_type else stored.view(STORAGE[result_type]))


def _elements(block: Block, operand: Operand, type_name: str) -> np.ndarray:
    element = PACKED.get(type_name, type_name)
    if element == type_name:
        return block.read_float(operand, type_name)
    return decode(np.ascontiguousarray(block.read(operand, type_name)).view(STORAGE[element]), element)


def exact_sum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 sum rounded to odd: a later rounding to float32 or less is right (TwoSum, Knuth)."""
    total = first + second
    part = total - first
    lost = (first - (total - part)) + (second - part)
    bits = np.ascontiguousarray(total).view(np.int64)
    adjust = (lost != 0) & np.isfinite(total) & (bits & 1 == 0)
    return np.where(adjust, np.nextafter(total, np.copysign(np.inf, lost)), total)


def _needs_exact(inst: Instruction) -> bool:
    return any(mode in inst.modifiers for mode in _ROUNDINGS)


@instruction(
    f"add[.{ROUNDING}][.ftz][.sat].f32", f"sub[.{ROUNDING}][.ftz][.sat].f32", "add[.rn].f64", "sub[.rn].f64",
    f"add[.rn][.ftz][.sat].{_HALF}", f"sub[.rn][.ftz][.sat].{_HALF}", f"add[.{ROUNDING}][.ftz].f32x2",
    f"sub[.{ROUNDING}][.ftz].f32x2", f"add[.{ROUNDING}][.sat].f32.(f16|bf16)", f"sub[.{ROUNDING}][.sat].f32.(f16|bf16)",
)  # fmt: skip
def add(block: Block, inst: Instruction) -> None:
    negative = inst.opcode == "sub"

    def total(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        second = -second if negative else second
        if _needs_exact(inst):
            return exact_sum(first.astype(np.float64), second.astype(np.float64))
        return first + second

    compute(block, inst, total)


@instruction(
    f"mul[.{ROUNDING}][.ftz][.sat].f32", "mul[.rn].f64", f"mul[.rn][.ftz][.sat].{_HALF}",
    f"mul[.{ROUNDING}][.ftz].f32x2",
)  # fmt: skip
def multiply(block: Block, inst: Instruction) -> None:
    # A product of two float32 is exact in float64.
    wide = np.float64 if _needs_exact(inst) else None
    compute(block, inst, lambda first, second: np.multiply(first, second, dtype=wide))


@instruction(
    f"fma.{ROUNDING}[.ftz][.sat].f32", f"fma.rn[.ftz][.sat|.relu].{_HALF}", f"fma.{ROUNDING}[.ftz].f32x2",
    f"mad.{ROUNDING}[.ftz][.sat].f32", "mad[.ftz][.sat].f32", f"fma.{ROUNDING}[.sat].f32.(f16|bf16)",
)  # fmt: skip
def multiply_add(block: Block, inst: Instruction) -> None:
    def fused(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> np.ndarray:
        return exact_sum(np.multiply(first, second, dtype=np.float64), third.astype(np.float64))

    compute(block, inst, fused)


@instruction("fma.rn.f64", "mad.rn.f64")
def multiply_add_double(block: Block, inst: Instruction) -> None:
    compute(block, inst, lambda *values: _libm_fma()(*values).astype(np.float64))


def _libm_fma() -> np.ufunc:
    fma = ctypes.CDLL(ctypes.util.find_library("m")).fma
    fma.restype, fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    return np.frompyfunc(fma, 3, 1)


@instruction(f"div.{ROUNDING}[.ftz].f32", "div.(approx|full)[.ftz].f32", "div.rn.f64")
def divide(block: Block, inst: Instruction) -> None:
    wide = np.float64 if _needs_exact(inst) else None
    compute(block, inst, lambda first, second: np.divide(first, second, dtype=wide))


@instruction(f"rcp.{ROUNDING}[.ftz].f32", "rcp.approx[.ftz].f32", "rcp.rn.f64", "rcp.approx.ftz.f64")
def reciprocal(block: Block, inst: Instruction) -> None:
    wide = np.float64 if _needs_exact(inst) else None
    compute(block, inst, lambda value: np.divide(1, value, dtype=wide or value.dtype))


@instruction(f"sqrt.{ROUNDING}[.ftz].f32", "sqrt.approx[.ftz].f32", "sqrt.rn.f64")
def square_root(block: Block, inst: Instruction) -> None:
    compute(block, inst, lambda value: np.sqrt(value, dtype=np.float64 if _needs_exact(inst) else None))


@instruction("neg[.ftz].(f32|f16|bf16|f16x2|bf16x2)", "neg.f64", "abs[.ftz].(f32|f16|bf16|f16x2|bf16x2)", "abs.f64")
def change_sign(block: Block, inst: Instruction) -> None:
    compute(block, inst, np.negative if inst.opcode == "neg" else np.abs)


@instruction(
    *(f"{op}[.ftz][.NaN].(f32|f16|f16x2)" for op in ("min", "max")),
    *(f"{op}[.NaN].(bf16|bf16x2)" for op in ("min", "max")),
    *(f"{op}[.ftz][.NaN].xorsign.abs.(f32|f16|f16x2|bf16|bf16x2)" for op in ("min", "max")), "min.f64", "max.f64",
)  # fmt: skip
def extremum(block: Block, inst: Instruction) -> None:
    lower = inst.opcode == "min"

    def choose(*values: np.ndarray) -> np.ndarray:
        if "xorsign" in inst.modifiers:
            # Of the magnitudes; the sign is that of the product.
            negative = np.signbit(values[0]) ^ np.signbit(values[1])
            magnitude = plain(*map(np.abs, values))
            return np.where(negative, -magnitude, magnitude)
        return plain(*values)

    def plain(*values: np.ndarray) -> np.ndarray:
        chosen = values[0]
        for other in values[1:]:
            # +0 counts as larger than -0.
            smaller = (chosen < other) | ((chosen == other) & np.signbit(chosen))
            best = np.where(smaller == lower, chosen, other)
            if "NaN" in inst.modifiers:
                best = np.where(np.isnan(chosen) | np.isnan(other), np.float32(np.nan), best)
            else:
                best = np.where(np.isnan(chosen), other, np.where(np.isnan(other), chosen, best))
            chosen = best.astype(chosen.dtype)
        return chosen

    compute(block, inst, choose)


@instruction("copysign.(f32|f64)")
def copy_sign(block: Block, inst: Instruction) -> None:
    # The sign comes from the first operand.
    compute(block, inst, lambda sign, value: np.copysign(value, sign))
