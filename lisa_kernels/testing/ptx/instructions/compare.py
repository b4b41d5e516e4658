"""Comparison and selection (PTX ISA, section "Comparison and Selection Instructions", and testp)."""

from __future__ import annotations

import operator

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Pair
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import SCALAR_FLOATS, STORAGE, decode, flush_subnormals

_INTEGER = {
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "lo": operator.lt,
    "ls": operator.le,
    "hi": operator.gt,
    "hs": operator.ge,
}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
_TESTS = "(eq|ne|lt|le|gt|ge|lo|ls|hi|hs)"
_FLOAT_TESTS = "(eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan)"
_INTEGER_TYPES = "(b16|b32|b64|u16|u32|u64|s16|s32|s64)"
_FLOAT_TYPES = "(f16|bf16|f32|f64)"
_LOGIC = "[.and|.or|.xor]"


@instruction(f"setp.{_TESTS}{_LOGIC}.{_INTEGER_TYPES}", f"setp.{_FLOAT_TESTS}{_LOGIC}[.ftz].{_FLOAT_TYPES}")
def set_predicate(block: Block, inst: Instruction) -> None:
    result = _compare(block, inst, inst.modifiers[0], inst.type)
    opposite = ~result
    if len(inst.operands) > 3:
        combine = _COMBINE[inst.modifiers[1]]
        other = block.read(inst.operands[3], "pred")
        result, opposite = combine(result, other), combine(opposite, other)
    target = inst.operands[0]
    if isinstance(target, Pair):
        block.write(target.first, result)
        block.write(target.second, opposite)
    else:
        block.write(target, result)


@instruction(f"setp.{_FLOAT_TESTS}[.ftz].(f16x2|bf16x2)")
def set_predicate_pair(block: Block, inst: Instruction) -> None:
    element = inst.type.removesuffix("x2")
    target = inst.operands[0]
    halves = [np.ascontiguousarray(block.read(o, "b32")).view(np.uint16).reshape(-1, 2) for o in inst.operands[1:3]]
    for i, destination in enumerate((target.first, target.second)):
        values = [decode(np.ascontiguousarray(half[:, i]).view(STORAGE[element]), element) for half in halves]
        block.write(destination, _test_floats(inst.modifiers[0], *values))


@instruction(
    f"set.{_TESTS}.(u32|s32).{_INTEGER_TYPES}", f"set.{_FLOAT_TESTS}[.ftz].(u32|s32).{_FLOAT_TYPES}",
    f"set.{_TESTS}.f32.{_INTEGER_TYPES}", f"set.{_FLOAT_TESTS}[.ftz].f32.{_FLOAT_TYPES}",
)  # fmt: skip
def set_value(block: Block, inst: Instruction) -> None:
    result = _compare(block, inst, inst.modifiers[0], inst.type)
    # True is -1 as an integer and 1.0 as a float.
    if inst.modifiers[-2] == "f32":
        block.write(inst.operands[0], result.astype(np.float32))
    else:
        block.write(inst.operands[0], np.where(result, np.uint32(0xFFFFFFFF), np.uint32(0)))


@instruction(f"selp.{_INTEGER_TYPES}", "selp.(f16|bf16|f32|f64)")
def select(block: Block, inst: Instruction) -> None:
    bits = f"b{8 * STORAGE[inst.type].itemsize}"
    first, second = (_raw(block, operand, inst.type, bits) for operand in inst.operands[1:3])
    block.write(inst.operands[0], np.where(block.read(inst.operands[3], "pred"), first, second))


@instruction(f"slct.{_INTEGER_TYPES}.s32", "slct.(f32|f64).s32", f"slct[.ftz].{_INTEGER_TYPES}.f32")
def select_by_sign(block: Block, inst: Instruction) -> None:
    type_name = inst.modifiers[-2]
    bits = f"b{8 * STORAGE[type_name].itemsize}"
    first, second = (_raw(block, operand, type_name, bits) for operand in inst.operands[1:3])
    block.write(inst.operands[0], np.where(block.read(inst.operands[3], inst.type) >= 0, first, second))


@instruction("testp.(finite|infinite|number|notanumber|normal|subnormal).(f32|f64)")
def test_property(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    smallest = np.finfo(value.dtype).smallest_normal
    subnormal = (np.abs(value) < smallest) & (value != 0)
    block.write(
        inst.operands[0],
        {
            "finite": np.isfinite(value),
            "infinite": np.isinf(value),
            "number": ~np.isnan(value),
            "notanumber": np.isnan(value),
            "normal": np.isfinite(value) & (np.abs(value) >= smallest),
            "subnormal": subnormal,
        }[inst.modifiers[0]],
    )


def _raw(block: Block, operand, type_name: str, bits: str) -> np.ndarray:
    return np.ascontiguousarray(block.read(operand, type_name)).view(STORAGE[bits])


def _compare(block: Block, inst: Instruction, test: str, type_name: str) -> np.ndarray:
    if type_name not in SCALAR_FLOATS:
        return _INTEGER[test](*(block.read(operand, type_name) for operand in inst.operands[1:3]))
    first, second = (block.read_float(operand, type_name) for operand in inst.operands[1:3])
    if "ftz" in inst.modifiers:
        first, second = flush_subnormals(first, type_name), flush_subnormals(second, type_name)
    return _test_floats(test, first, second)


def _test_floats(test: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    unordered = np.isnan(first) | np.isnan(second)
    if test == "num":
        return ~unordered
    if test == "nan":
        return unordered
    if len(test) == 3:
        return _INTEGER[test[:2]](first, second) | unordered
    # An ordered comparison with NaN is false, also `ne`.
    return _INTEGER[test](first, second) & ~unordered
