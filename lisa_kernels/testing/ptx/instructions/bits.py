"""Logic, shifts, bit fields (PTX ISA, sections "Logic and Shift Instructions", "Integer Arithmetic Instructions")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.notation import BITS
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction

_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_PRMT_MODES = {
    # For each selector 0 to 3: which of the 8 bytes make the result, lowest first.
    "f4e": lambda s: (s, s + 1, s + 2, s + 3),
    "b4e": lambda s: (s, s + 7, s + 6, s + 5),
    "rc8": lambda s: (s, s, s, s),
    "ecl": lambda s: (s, max(s, 1), max(s, 2), 3),
    "ecr": lambda s: (0, min(s, 1), min(s, 2), s),
    "rc16": lambda s: (2 * (s & 1), 2 * (s & 1) + 1) * 2,
}


@instruction(*(f"{op}.(pred|b16|b32|b64)" for op in _LOGIC))
def logic(block: Block, inst: Instruction) -> None:
    first, second = (block.read(operand, inst.type) for operand in inst.operands[1:])
    block.write(inst.operands[0], _LOGIC[inst.opcode](first, second))


@instruction("not.(pred|b16|b32|b64)")
def invert(block: Block, inst: Instruction) -> None:
    block.write(inst.operands[0], ~block.read(inst.operands[1], inst.type))


@instruction(f"cnot.{BITS}")
def is_zero(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    block.write(inst.operands[0], (value == 0).astype(value.dtype))


@instruction("lop3.b32")
def lookup_logic(block: Block, inst: Instruction) -> None:
    values = [block.read(operand, "b32") for operand in inst.operands[1:4]]
    table = inst.operands[4].value
    result = np.zeros(block.count, np.uint32)
    for row in range(8):
        if table >> row & 1:
            first, second, third = (v if row >> (2 - i) & 1 else ~v for i, v in enumerate(values))
            result |= first & second & third
    block.write(inst.operands[0], result)


@instruction(f"shl.{BITS}", f"shr.{BITS}", "shr.(u16|u32|u64|s16|s32|s64)")
def shift(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    width = 8 * value.dtype.itemsize
    amount = block.read(inst.operands[2], "u32")
    # Amounts beyond the width act as the width.
    within = np.minimum(amount, width - 1).astype(value.dtype)
    if inst.opcode == "shr" and value.dtype.kind == "i":
        result = value >> within
    else:
        result = np.where(
            amount >= width, value.dtype.type(0), value << within if inst.opcode == "shl" else value >> within
        )
    block.write(inst.operands[0], result)


@instruction("shf.(l|r).(wrap|clamp).b32")
def funnel_shift(block: Block, inst: Instruction) -> None:
    low, high = (block.read(operand, "u32").astype(np.uint64) for operand in inst.operands[1:3])
    amount = block.read(inst.operands[3], "u32")
    amount = (amount & np.uint32(31) if "wrap" in inst.modifiers else np.minimum(amount, 32)).astype(np.uint64)
    both = (high << np.uint64(32)) | low
    if inst.modifiers[0] == "l":
        # By 32 the upper half is the low word itself.
        shifted = np.where(amount == 32, low, (both << amount) >> np.uint64(32))
    else:
        shifted = both >> amount
    block.write(inst.operands[0], (shifted & np.uint64(0xFFFFFFFF)).astype(np.uint32))


@instruction(f"popc.{BITS}")
def count_ones(block: Block, inst: Instruction) -> None:
    block.write(inst.operands[0], _bit_table(block.read(inst.operands[1], inst.type)).sum(1).astype(np.uint32))


@instruction("clz.(b32|b64)")
def leading_zeros(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    block.write(inst.operands[0], (8 * value.dtype.itemsize - 1 - _highest_one(value)).astype(np.uint32))


@instruction("bfind[.shiftamt].(u32|s32|u64|s64)")
def find_leading(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    place = _highest_one(np.where(value < 0, ~value, value) if value.dtype.kind == "i" else value)
    if "shiftamt" in inst.modifiers:
        place = np.where(place >= 0, 8 * value.dtype.itemsize - 1 - place, place)
    block.write(inst.operands[0], place.astype(np.int32))


@instruction("brev.(b32|b64)")
def reverse(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    reversed_bits = np.packbits(_bit_table(value)[:, ::-1], axis=1, bitorder="little")
    block.write(inst.operands[0], reversed_bits.view(value.dtype)[:, 0])


@instruction("bfe.(u32|s32|u64|s64)")
def extract_field(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    width = 8 * value.dtype.itemsize
    start, length = (block.read(operand, "u32").astype(np.int64) & 0xFF for operand in inst.operands[2:4])
    bits = value.view(f"u{value.dtype.itemsize}")
    kind = bits.dtype.type
    taken = np.where(start >= width, kind(0), bits >> np.minimum(start, width - 1).astype(bits.dtype))
    mask = np.where(length >= width, ~kind(0), (kind(1) << np.minimum(length, width - 1).astype(bits.dtype)) - kind(1))
    result = taken & mask
    if value.dtype.kind == "i":
        # The sign is the field's top bit, or the value's where the field reaches beyond it.
        top = np.clip(start + length - 1, 0, width - 1)
        sign = (length > 0) & ((bits >> top.astype(bits.dtype)) & kind(1) == 1)
        available = np.clip(np.minimum(length, width - start), 0, width)
        filled = np.where(available >= width, kind(0), ~kind(0) << np.minimum(available, width - 1).astype(bits.dtype))
        result = np.where(sign, result | filled, result)
    block.write(inst.operands[0], result)


@instruction("bfi.(b32|b64)")
def insert_field(block: Block, inst: Instruction) -> None:
    field, base = (block.read(operand, inst.type) for operand in inst.operands[1:3])
    width, kind = 8 * base.dtype.itemsize, base.dtype.type
    start, length = (block.read(operand, "u32").astype(np.int64) & 0xFF for operand in inst.operands[3:5])
    ones = np.where(length >= width, ~kind(0), (kind(1) << np.minimum(length, width - 1).astype(base.dtype)) - kind(1))
    shift_by = np.minimum(start, width - 1).astype(base.dtype)
    mask = np.where(start >= width, kind(0), ones << shift_by)
    block.write(inst.operands[0], (base & ~mask) | ((field << shift_by) & mask))


@instruction("prmt.b32[.f4e|.b4e|.rc8|.ecl|.ecr|.rc16]")
def permute_bytes(block: Block, inst: Instruction) -> None:
    low, high, selector = (block.read(operand, "b32").astype(np.uint64) for operand in inst.operands[1:4])
    both = low | (high << np.uint64(32))
    result = np.zeros(block.count, np.uint64)
    for place in range(4):
        if inst.modifiers[-1] == "b32":
            nibble = (selector >> np.uint64(4 * place)) & np.uint64(15)
        else:
            choices = [_PRMT_MODES[inst.modifiers[-1]](s)[place] % 8 for s in range(4)]
            nibble = np.array(choices, np.uint64)[(selector & np.uint64(3)).astype(np.int64)]
        byte = (both >> ((nibble & np.uint64(7)) * np.uint64(8))) & np.uint64(0xFF)
        # Bit 3 asks for eight copies of the byte's sign.
        sign = np.where(byte & np.uint64(0x80), np.uint64(0xFF), np.uint64(0))
        result |= np.where(nibble & np.uint64(8), sign, byte) << np.uint64(8 * place)
    block.write(inst.operands[0], result.astype(np.uint32))


@instruction("bmsk.(clamp|wrap).b32")
def mask_of_bits(block: Block, inst: Instruction) -> None:
    start, length = (block.read(operand, "u32").astype(np.uint64) for operand in inst.operands[1:3])
    if "wrap" in inst.modifiers:
        start, length = start & np.uint64(31), length & np.uint64(31)
    start, length = np.minimum(start, 32), np.minimum(length, 32)
    ones = (np.uint64(1) << length.astype(np.uint64)) - np.uint64(1)
    block.write(inst.operands[0], ((ones << start.astype(np.uint64)) & np.uint64(0xFFFFFFFF)).astype(np.uint32))


def _bit_table(values: np.ndarray) -> np.ndarray:
    """``[lanes, bits]``, lowest bit first."""
    bytes_of = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    return np.unpackbits(bytes_of, axis=1, bitorder="little")


def _highest_one(values: np.ndarray) -> np.ndarray:
    """Index of the highest bit that is set, -1 for 0."""
    table = _bit_table(values)
    return np.where(table.any(1), table.shape[1] - 1 - np.argmax(table[:, ::-1], axis=1), -1)
