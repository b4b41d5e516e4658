"""Integers (PTX ISA, sections "Integer Arithmetic Instructions", "Extended-Precision Integer Arithmetic")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.notation import INT16_UP, INT32_UP
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import STORAGE

_BINARY = {"add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum}


@instruction(*(f"{op}.{INT16_UP}" for op in _BINARY))
def binary(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, inst.type) for operand in inst.operands[1:])
    block.write(inst.operands[0], _BINARY[inst.opcode](first, second))


@instruction(*(f"{op}.(u16x2|s16x2)" for op in ("add", "min", "max")))
def packed_binary(block: Block, inst: Instruction) -> None:
    half = STORAGE[inst.type.removesuffix("x2")]
    first, second = (np.ascontiguousarray(block.read(operand, "b32")).view(half) for operand in inst.operands[1:])
    block.write(inst.operands[0], _BINARY[inst.opcode](first, second).view(np.uint32))


@instruction("add.sat.s32", "sub.sat.s32")
def saturating(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, "s32").astype(np.int64) for operand in inst.operands[1:])
    exact = _BINARY[inst.opcode](first, second)
    block.write(inst.operands[0], np.clip(exact, -(2**31), 2**31 - 1).astype(np.int32))


@instruction("min.relu.s32", "max.relu.s32")
def relu(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, "s32") for operand in inst.operands[1:])
    block.write(inst.operands[0], np.maximum(_BINARY[inst.opcode](first, second), 0))


@instruction("neg.(s16|s32|s64)")
def negate(block: Block, inst: Instruction) -> None:
    block.write(inst.operands[0], -block.read(inst.operands[1], inst.type))


@instruction("abs.(s16|s32|s64)")
def absolute(block: Block, inst: Instruction) -> None:
    block.write(inst.operands[0], np.abs(block.read(inst.operands[1], inst.type)))


@instruction(f"mul.(lo|hi).{INT16_UP}", "mul.wide.(u16|s16|u32|s32)")
def multiply(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, inst.type) for operand in inst.operands[1:])
    block.write(inst.operands[0], _product(first, second, inst.modifiers[0]))


@instruction(f"mad.(lo|hi).{INT16_UP}", "mad.wide.(u16|s16|u32|s32)")
def multiply_add(block: Block, inst: Instruction) -> None:
    part, type_name = inst.modifiers[0], inst.type
    first, second = (block.read(operand, type_name) for operand in inst.operands[1:3])
    wide = f"{type_name[0]}{2 * int(type_name[1:])}" if part == "wide" else type_name
    block.write(inst.operands[0], _product(first, second, part) + block.read(inst.operands[3], wide))


@instruction("mul24.(lo|hi).(u32|s32)", "mad24.(lo|hi).(u32|s32)")
def multiply_24(block: Block, inst: Instruction) -> None:
    signed = inst.type == "s32"
    factors = []
    for operand in inst.operands[1:3]:
        value = block.read(operand, inst.type).astype(np.int64) & 0xFFFFFF
        factors.append(np.where(signed & (value >= 1 << 23), value - (1 << 24), value))
    exact = factors[0] * factors[1]
    result = exact >> 16 if inst.modifiers[0] == "hi" else exact
    if inst.opcode == "mad24":
        result = result + block.read(inst.operands[3], inst.type).astype(np.int64)
    block.write(inst.operands[0], result.astype(np.uint64).astype(np.uint32))


@instruction(f"div.{INT16_UP}", f"rem.{INT16_UP}")
def divide(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, inst.type) for operand in inst.operands[1:])
    # Division by zero has no defined result; all bits set, as on the devices, shows up.
    safe = np.where(second == 0, 1, second).astype(second.dtype)
    remainder = np.fmod(first, safe)
    if inst.opcode == "rem":
        block.write(inst.operands[0], np.where(second == 0, first, remainder).astype(first.dtype))
        return
    quotient = (first - remainder) // safe
    block.write(inst.operands[0], np.where(second == 0, ~np.zeros_like(first), quotient).astype(first.dtype))


@instruction(f"sad.{INT16_UP}")
def sum_of_differences(block: Block, inst: Instruction) -> None:
    first, second, third = (block.read(operand, inst.type) for operand in inst.operands[1:])
    block.write(inst.operands[0], third + np.where(first < second, second - first, first - second))


@instruction("dp4a.(u32|s32).(u32|s32)")
def dot_of_four_bytes(block: Block, inst: Instruction) -> None:
    total = block.read(inst.operands[3], "s32").astype(np.int64)
    factors = [
        np.ascontiguousarray(block.read(operand, "b32")).view(np.int8 if type_name == "s32" else np.uint8)
        for operand, type_name in zip(inst.operands[1:3], inst.modifiers, strict=True)
    ]
    products = factors[0].astype(np.int64) * factors[1].astype(np.int64)
    block.write(inst.operands[0], (total + products.reshape(-1, 4).sum(1)).astype(np.uint64).astype(np.uint32))


@instruction(f"add.cc.{INT32_UP}", f"addc[.cc].{INT32_UP}")
def add_carry(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, "u" + inst.type[1:]) for operand in inst.operands[1:])
    _add_with_carry(block, inst, first, second, takes_carry=inst.opcode == "addc")


@instruction(f"sub.cc.{INT32_UP}", f"subc[.cc].{INT32_UP}")
def subtract_borrow(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, "u" + inst.type[1:]) for operand in inst.operands[1:])
    borrow = block.carry.astype(first.dtype) if inst.opcode == "subc" else np.zeros_like(first)
    partial = first - second
    result = partial - borrow
    block.write(inst.operands[0], result)
    if "cc" in inst.modifiers:
        _set_carry(block, (first < second) | (partial < borrow))


@instruction(f"mad.(lo|hi).cc.{INT32_UP}", f"madc.(lo|hi)[.cc].{INT32_UP}")
def multiply_add_carry(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, inst.type) for operand in inst.operands[1:3])
    unsigned = "u" + inst.type[1:]
    product = _product(first, second, inst.modifiers[0]).view(STORAGE[unsigned])
    _add_with_carry(block, inst, product, block.read(inst.operands[3], unsigned), takes_carry=inst.opcode == "madc")


def _add_with_carry(
    block: Block, inst: Instruction, first: np.ndarray, second: np.ndarray, *, takes_carry: bool
) -> None:
    partial = first + second
    result = partial + block.carry.astype(first.dtype) if takes_carry else partial
    block.write(inst.operands[0], result)
    if "cc" in inst.modifiers:
        _set_carry(block, (partial < first) | (result < partial))


def _set_carry(block: Block, carry: np.ndarray) -> None:
    block.carry = np.where(block.active, carry, block.carry).astype(np.uint64)


def _product(first: np.ndarray, second: np.ndarray, part: str) -> np.ndarray:
    if part == "lo":
        return first * second
    if first.dtype.itemsize == 8:
        return _high_64(first, second)
    wide = np.dtype(f"{first.dtype.kind}{2 * first.dtype.itemsize}")
    exact = first.astype(wide) * second.astype(wide)
    return exact if part == "wide" else (exact >> wide.type(8 * first.dtype.itemsize)).astype(first.dtype)


def _high_64(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Upper half of a 128-bit product, from four products of 32-bit halves."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    a, b = first.view(np.uint64), second.view(np.uint64)
    a_low, a_high, b_low, b_high = a & low, a >> half, b & low, b >> half
    middle = a_high * b_low + (a_low * b_low >> half)
    high = a_high * b_high + (middle >> half) + ((a_low * b_high + (middle & low)) >> half)
    if first.dtype.kind == "i":
        high = high - np.where(first < 0, b, np.uint64(0)) - np.where(second < 0, a, np.uint64(0))
    return high.view(first.dtype)
