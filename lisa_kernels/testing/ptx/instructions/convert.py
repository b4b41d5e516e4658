"""Conversions (PTX ISA, section "Data Movement and Conversion Instructions: cvt", and "cvt.pack")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.notation import INT8_UP, ROUNDING
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import (
    SCALAR_FLOATS,
    STORAGE,
    decode,
    encode,
    flush_subnormals,
    saturate,
    to_float8,
)

_FLOAT = "(f16|bf16|f32|f64)"
_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@instruction(f"cvt[.sat].{INT8_UP}.{INT8_UP}")
def integer_to_integer(block: Block, inst: Instruction) -> None:
    target, source = inst.modifiers[-2:]
    value = block.read(inst.operands[1], source)
    if "sat" in inst.modifiers:
        limits = np.iinfo(STORAGE[target])
        low, high = max(limits.min, np.iinfo(value.dtype).min), min(limits.max, np.iinfo(value.dtype).max)
        value = np.clip(value, low, high)
    block.write(inst.operands[0], value.astype(STORAGE[target]))


@instruction(f"cvt.(rni|rzi|rmi|rpi)[.ftz][.sat].{INT8_UP}.{_FLOAT}")
def float_to_integer(block: Block, inst: Instruction) -> None:
    target, source = inst.modifiers[-2:]
    value = _source(block, inst, source).astype(np.float64)
    rounded = _TO_INTEGER[inst.modifiers[0]](value)
    limits = np.iinfo(STORAGE[target])
    # Values out of range become the nearest limit, NaN becomes 0.
    above, below = rounded >= float(limits.max), rounded <= float(limits.min)
    inside = np.where(above | below | np.isnan(rounded), 0, rounded).astype(STORAGE[target])
    block.write(
        inst.operands[0], np.where(above, limits.max, np.where(below, limits.min, inside)).astype(STORAGE[target])
    )


@instruction(f"cvt.{ROUNDING}[.sat].(f16|f32|f64).{INT8_UP}", f"cvt.{ROUNDING}.bf16.{INT8_UP}")
def integer_to_float(block: Block, inst: Instruction) -> None:
    target, source = inst.modifiers[-2:]
    value = block.read(inst.operands[1], source)
    # 64-bit integers are exact in the 64-bit mantissa of long double alone.
    exact = value.astype(np.longdouble) if value.dtype.itemsize == 8 else value.astype(np.float64)
    if "sat" in inst.modifiers:
        exact = saturate(exact)
    block.write(inst.operands[0], encode(exact, target, inst.modifiers[0]))


@instruction(f"cvt.{ROUNDING}[.ftz][.sat][.relu].{_FLOAT}.{_FLOAT}", f"cvt[.ftz][.sat].{_FLOAT}.{_FLOAT}")
def float_to_float(block: Block, inst: Instruction) -> None:
    target, source = inst.modifiers[-2:]
    value = _source(block, inst, source)
    rounding = inst.modifiers[0] if inst.modifiers[0] in ("rn", "rz", "rm", "rp") else "rn"
    _write_float(block, inst, value, target, rounding)


@instruction(*(f"cvt.(rni|rzi|rmi|rpi)[.ftz][.sat].{name}.{name}" for name in ("f16", "bf16", "f32", "f64")))
def round_to_integer(block: Block, inst: Instruction) -> None:
    _write_float(block, inst, _TO_INTEGER[inst.modifiers[0]](_source(block, inst, inst.type)), inst.type, "rn")


@instruction("cvt.(rn|rz)[.relu].(f16x2|bf16x2).f32")
def two_floats_to_packed(block: Block, inst: Instruction) -> None:
    element = inst.modifiers[-2].removesuffix("x2")
    halves = []
    for operand in inst.operands[1:3]:
        value = block.read(operand, "f32")
        value = _relu(value) if "relu" in inst.modifiers else value
        halves.append(encode(value, element, inst.modifiers[0]).view(np.uint16).astype(np.uint32))
    # The first source goes to the upper half.
    block.write(inst.operands[0], halves[0] << np.uint32(16) | halves[1])


@instruction("cvt.rna[.satfinite].tf32.f32", "cvt.(rn|rz)[.relu].tf32.f32")
def float_to_tf32(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], "f32")
    if "relu" in inst.modifiers:
        value = _relu(value)
    block.write(inst.operands[0], encode(value, "tf32", inst.modifiers[0]))


@instruction("cvt.rn.satfinite[.relu].(e4m3x2|e5m2x2).f32")
def two_floats_to_float8(block: Block, inst: Instruction) -> None:
    element = inst.modifiers[-2].removesuffix("x2")
    high, low = (block.read(operand, "f32") for operand in inst.operands[1:3])
    _write_float8_pair(block, inst, low, high, element)


@instruction("cvt.rn.satfinite[.relu].(e4m3x2|e5m2x2).(f16x2|bf16x2)")
def packed_to_float8(block: Block, inst: Instruction) -> None:
    element, half = inst.modifiers[-2].removesuffix("x2"), inst.type.removesuffix("x2")
    pair = np.ascontiguousarray(block.read(inst.operands[1], "b32")).view(STORAGE[half]).reshape(-1, 2)
    low, high = (decode(np.ascontiguousarray(pair[:, i]), half) for i in (0, 1))
    _write_float8_pair(block, inst, low, high, element)


@instruction("cvt.rn[.relu].f16x2.(e4m3x2|e5m2x2)")
def float8_to_packed(block: Block, inst: Instruction) -> None:
    element = inst.type.removesuffix("x2")
    pair = np.ascontiguousarray(block.read(inst.operands[1], "b16")).view(np.uint8)
    values = decode(pair, element)
    if "relu" in inst.modifiers:
        values = _relu(values)
    block.write(inst.operands[0], values.astype(np.float16).view(np.uint32))


@instruction("cvt.pack.sat.(u8|s8).s32.b32", "cvt.pack.sat.(u16|s16).s32")
def pack_integers(block: Block, inst: Instruction) -> None:
    narrow = STORAGE[inst.modifiers[2]]
    limits = np.iinfo(narrow)
    first, second = (
        np.clip(block.read(operand, "s32"), limits.min, limits.max).astype(narrow).view(f"u{narrow.itemsize}")
        for operand in inst.operands[1:3]
    )
    width = np.uint32(8 * narrow.itemsize)
    packed = first.astype(np.uint32) << width | second.astype(np.uint32)
    if len(inst.operands) > 3:
        packed |= block.read(inst.operands[3], "b32") << np.uint32(16)
    block.write(inst.operands[0], packed)


def _source(block: Block, inst: Instruction, type_name: str) -> np.ndarray:
    value = block.read_float(inst.operands[1], type_name)
    return flush_subnormals(value, type_name) if "ftz" in inst.modifiers and type_name != "f64" else value


def _write_float(block: Block, inst: Instruction, value: np.ndarray, type_name: str, rounding: str) -> None:
    if "sat" in inst.modifiers:
        value = saturate(value)
    if "relu" in inst.modifiers:
        value = _relu(value)
    if type_name == "f64":
        value = value.astype(np.float64)
    stored = encode(value, type_name, rounding)
    if "ftz" in inst.modifiers and type_name in SCALAR_FLOATS - {"f64"}:
        stored = encode(flush_subnormals(decode(stored, type_name), type_name), type_name)
    block.write(inst.operands[0], stored)


def _write_float8_pair(block: Block, inst: Instruction, low: np.ndarray, high: np.ndarray, element: str) -> None:
    if "relu" in inst.modifiers:
        low, high = _relu(low), _relu(high)
    codes = [to_float8(values, element).astype(np.uint16) for values in (high, low)]
    block.write(inst.operands[0], codes[0] << np.uint16(8) | codes[1])


def _relu(value: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(value), value, np.maximum(value, 0))
