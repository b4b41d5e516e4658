"""Matrices of a warp (PTX ISA, section "Warp Level Matrix Instructions": mma, ldmatrix, stmatrix, movmatrix).

Products are exact and summed in float64, then rounded once to the accumulator's type: the last bits of a device, which
rounds inside the sum in a way of its own, are not modelled.
"""

from __future__ import annotations

import re

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.data_movement import space_of
from lisa_kernels.testing.ptx.instructions.warp import assemble_warps
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Operand
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import STORAGE, UNSIGNED, decode

_FLOAT8 = "(e4m3|e5m2)"
# Storage of one element of an operand.
_ELEMENTS = {"tf32": 4, "bf16": 2, "f16": 2, "s8": 1, "u8": 1, "e4m3": 1, "e5m2": 1}


@instruction(
    "mma.sync.aligned.(m16n8k8|m16n8k16).row.col.f32.(bf16.bf16|f16.f16).f32",
    "mma.sync.aligned.(m16n8k8|m16n8k16).row.col.f16.f16.f16.f16",
    "mma.sync.aligned.(m16n8k4|m16n8k8).row.col.f32.tf32.tf32.f32",
    f"mma.sync.aligned.(m16n8k16|m16n8k32).row.col.(f32|f16).{_FLOAT8}.{_FLOAT8}.(f32|f16)",
    f"mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.(f32|f16).{_FLOAT8}.{_FLOAT8}.(f32|f16)",
    "mma.sync.aligned.(m16n8k16|m16n8k32).row.col[.satfinite].s32.(s8|u8).(s8|u8).s32",
)
def multiply_accumulate(block: Block, inst: Instruction) -> None:
    if not assemble_warps(block):
        return
    depth = int(re.search(r"k(\d+)", inst.mnemonic)[1])
    target_type, a_type, b_type, c_type = inst.modifiers[-4:]
    targets, a_registers, b_registers, c_registers = (block.items(operand) for operand in inst.operands)
    warps = len(block.lanes) // 32
    a = np.zeros((warps, 16, depth))
    for i, register in enumerate(a_registers):
        part = _fragment(block, register, a_type)
        rows, columns = 8 * (i & 1), (i >> 1) * part.shape[2]
        a[:, rows : rows + 8, columns : columns + part.shape[2]] = part
    b = np.zeros((warps, depth, 8))
    for i, register in enumerate(b_registers):
        part = _fragment(block, register, b_type)
        b[:, i * part.shape[2] : (i + 1) * part.shape[2]] = part.transpose(0, 2, 1)
    product = a @ b + _read_accumulators(block, c_registers, c_type)
    _write_accumulators(block, targets, product, target_type, saturates="satfinite" in inst.modifiers)


@instruction("mma.sync.aligned.m8n8k4.row.col[.rn].f64.f64.f64.f64")
def multiply_accumulate_double(block: Block, inst: Instruction) -> None:
    """Lane 4r + c holds A[r, c], B[c, r] and columns 2c and 2c + 1 of row r of the accumulators."""
    if not assemble_warps(block):
        return
    targets, a_register, b_register, accumulators = (block.items(operand) for operand in inst.operands)
    a, b = (block.read(register[0], "f64")[block.lanes].reshape(-1, 8, 4) for register in (a_register, b_register))
    product = a @ b.transpose(0, 2, 1)
    for i, (target, accumulator) in enumerate(zip(targets, accumulators, strict=True)):
        old = block.read(accumulator, "f64")[block.lanes]
        block.write_lanes(target, old + product[:, :, i::2].reshape(-1))


def _fragment(block: Block, register: Operand, type_name: str) -> np.ndarray:
    """One register of a fragment as ``[warps, 8, elements]``: lane 4r + c holds part c of row r."""
    bits = np.ascontiguousarray(block.read(register, "b32")[block.lanes])
    return decode_elements(bits.view(UNSIGNED[_ELEMENTS[type_name]]), type_name).reshape(len(bits) // 32, 8, -1)


def decode_elements(bits: np.ndarray, type_name: str) -> np.ndarray:
    """Elements of an operand as float64."""
    if type_name in ("s8", "u8"):
        return bits.view(STORAGE[type_name]).astype(np.float64)
    return decode(bits, type_name).astype(np.float64)


def _read_accumulators(block: Block, registers: tuple[Operand, ...], type_name: str) -> np.ndarray:
    """``[warps, 16, 8]``: registers hold rows r and r + 8, two columns each."""
    result = np.empty((len(block.lanes) // 32, 16, 8))
    for i, values in enumerate(_accumulator_columns(block, registers, type_name)):
        result[:, 8 * (i >> 1) : 8 * (i >> 1) + 8, i & 1 :: 2] = values.reshape(-1, 8, 4)
    return result


def _accumulator_columns(block: Block, registers: tuple[Operand, ...], type_name: str):
    for register in registers:
        values = np.ascontiguousarray(block.read(register, "b32")[block.lanes]).view(STORAGE[type_name])
        # A register holds one f32 or s32, or two f16.
        for column in values.reshape(len(block.lanes), -1).T:
            yield column.astype(np.float64)


def _write_accumulators(
    block: Block, registers: tuple[Operand, ...], product: np.ndarray, type_name: str, *, saturates: bool
) -> None:
    columns = [product[:, 8 * (i >> 1) : 8 * (i >> 1) + 8, i & 1 :: 2].reshape(-1) for i in range(4)]
    stored = [round_accumulator(column, type_name, saturates=saturates) for column in columns]
    per_register = 4 // len(registers)
    for i, register in enumerate(registers):
        parts = stored[i * per_register : (i + 1) * per_register]
        block.write_lanes(register, np.stack(parts, axis=1).view(np.uint32)[:, 0])


def round_accumulator(values: np.ndarray, type_name: str, *, saturates: bool = False) -> np.ndarray:
    """float64 sums as accumulators; integers wrap around unless they saturate."""
    if type_name != "s32":
        return values.astype(STORAGE[type_name])
    if saturates:
        values = np.clip(values, -(2.0**31), 2.0**31 - 1)
    return values.astype(np.int64).astype(np.int32)


@instruction("ldmatrix.sync.aligned.m8n8.(x1|x2|x4)[.trans][.shared|.shared::cta].b16")
def load_matrix(block: Block, inst: Instruction) -> None:
    if not assemble_warps(block):
        return
    targets = block.items(inst.operands[0])
    addresses = _row_addresses(block, inst.operands[1])
    for i, target in enumerate(targets):
        lanes, rows = _row_lanes(block, i), addresses[:, 8 * i : 8 * i + 8].reshape(-1)
        matrices = block.memory.load(space_of(inst), rows, 16, lanes).view(np.uint16).reshape(-1, 8, 8)
        if "trans" in inst.modifiers:
            matrices = matrices.transpose(0, 2, 1)
        block.write_lanes(target, np.ascontiguousarray(matrices).view(np.uint32).reshape(-1))


@instruction("stmatrix.sync.aligned.m8n8.(x1|x2|x4)[.trans][.shared|.shared::cta].b16")
def store_matrix(block: Block, inst: Instruction) -> None:
    if not assemble_warps(block):
        return
    sources = block.items(inst.operands[1])
    addresses = _row_addresses(block, inst.operands[0])
    for i, source in enumerate(sources):
        values = np.ascontiguousarray(block.read(source, "b32")[block.lanes])
        matrices = values.view(np.uint16).reshape(-1, 8, 8)
        if "trans" in inst.modifiers:
            matrices = matrices.transpose(0, 2, 1)
        data = np.ascontiguousarray(matrices).reshape(-1, 8).view(np.uint8)
        rows = addresses[:, 8 * i : 8 * i + 8].reshape(-1)
        block.memory.store(space_of(inst), rows, data, _row_lanes(block, i))


@instruction("movmatrix.sync.aligned.m8n8.trans.b16")
def transpose(block: Block, inst: Instruction) -> None:
    if not assemble_warps(block):
        return
    values = np.ascontiguousarray(block.read(inst.operands[1], "b32")[block.lanes])
    matrices = values.view(np.uint16).reshape(-1, 8, 8).transpose(0, 2, 1)
    block.write_lanes(inst.operands[0], np.ascontiguousarray(matrices).view(np.uint32).reshape(-1))


def _row_addresses(block: Block, operand: Operand) -> np.ndarray:
    """``[warps, 32]``: lane 8i + r gives row r of matrix i."""
    return block.addresses(operand).reshape(-1, 32)


def _row_lanes(block: Block, matrix: int) -> np.ndarray:
    return block.lanes.reshape(-1, 32)[:, 8 * matrix : 8 * matrix + 8].reshape(-1)
