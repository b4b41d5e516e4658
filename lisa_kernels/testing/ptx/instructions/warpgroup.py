"""Matrix instructions of a warpgroup (PTX ISA, section "Asynchronous Warpgroup Level Matrix Instructions").

A wgmma is computed when it is issued.  That it is asynchronous shows in what may not be done until its warpgroup waits:
see ``warpgroups.py``.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.matrix import decode_elements, round_accumulator
from lisa_kernels.testing.ptx.instructions.warp import assemble
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Immediate, Operand, Vector, registers_in
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import STORAGE, UNSIGNED
from lisa_kernels.testing.ptx.warpgroups import WarpgroupProduct

_ELEMENTS = {"tf32": 4, "bf16": 2, "f16": 2, "s8": 1, "u8": 1, "e4m3": 1, "e5m2": 1}
# Bytes of a swizzled row, and the bits of the row that are exchanged, by the descriptor's swizzle mode.
_SWIZZLES = {0: (16, 0), 1: (128, 7), 2: (64, 3), 3: (32, 1)}


@dataclasses.dataclass(frozen=True)
class MatrixDescriptor:
    """Where a matrix lies in shared memory (section "Matrix Descriptor Format")."""

    start: int
    leading_offset: int
    stride_offset: int
    base_offset: int
    swizzle: int

    @classmethod
    def of(cls, bits: int) -> MatrixDescriptor:
        return cls(
            (bits & 0x3FFF) << 4, (bits >> 16 & 0x3FFF) << 4, (bits >> 32 & 0x3FFF) << 4, bits >> 49 & 7, bits >> 62
        )

    def offsets(self, rows: int, depth: int, element: int, *, transposed: bool) -> np.ndarray:
        """Byte offsets ``[rows, depth]`` of all elements; ``transposed``: rows are contiguous instead of the depth."""
        row, k = np.meshgrid(np.arange(rows), np.arange(depth), indexing="ij")
        row_bytes, exchanged = _SWIZZLES[self.swizzle]
        if not transposed:
            place = self.start + row // 8 * self.stride_offset + row % 8 * row_bytes
            if self.swizzle:
                place = place + k * element
            else:
                place = place + k * element // 16 * self.leading_offset + k * element % 16
        elif self.swizzle:
            in_row = row_bytes // element
            place = self.start + row % in_row * element + row // in_row * self.leading_offset
            place = place + k % 8 * row_bytes + k // 8 * self.stride_offset
        else:
            place = self.start + row % 8 * element + k % 8 * 16
            place = place + row // 8 * self.leading_offset + k // 8 * self.stride_offset
        return place ^ ((place >> 7 & exchanged) << 4)


@instruction("wgmma.fence.sync.aligned")
def fence(block: Block, inst: Instruction) -> None:
    if _assemble_warpgroups(block):
        block.warpgroups.fence(_groups(block))


@instruction("wgmma.commit_group.sync.aligned")
def commit(block: Block, inst: Instruction) -> None:
    if _assemble_warpgroups(block):
        block.warpgroups.commit(_groups(block))


@instruction("wgmma.wait_group.sync.aligned")
def wait(block: Block, inst: Instruction) -> None:
    if _assemble_warpgroups(block):
        block.warpgroups.wait(_groups(block), inst.operands[0].value)


@instruction(
    "wgmma.mma_async.sync.aligned.m64n#k16.(f32|f16).f16.f16",
    "wgmma.mma_async.sync.aligned.m64n#k16.f32.bf16.bf16",
    "wgmma.mma_async.sync.aligned.m64n#k8.f32.tf32.tf32",
    "wgmma.mma_async.sync.aligned.m64n#k32.(f32|f16).(e4m3|e5m2).(e4m3|e5m2)",
    "wgmma.mma_async.sync.aligned.m64n#k32[.satfinite].s32.(s8|u8).(s8|u8)",
)
def multiply_accumulate(block: Block, inst: Instruction) -> None:
    if not _assemble_warpgroups(block):
        return
    columns, depth = (int(size) for size in re.search(r"m64n(\d+)k(\d+)", inst.mnemonic).groups())
    target_type, a_type, b_type = inst.modifiers[-3:]
    targets, a_operand, b_operand, scale_d, *immediates = inst.operands
    scale_a, scale_b, transposed_a, transposed_b = _immediates(immediates, isinstance(a_operand, Vector))
    products = []
    for group in _groups(block):
        lanes = np.arange(128 * group, 128 * group + 128)
        read: list[np.ndarray] = []
        if isinstance(a_operand, Vector):
            a = _matrix_in_registers(block, a_operand, a_type, depth, lanes)
        else:
            a = _matrix_in_memory(block, a_operand, a_type, (64, depth), lanes, transposed_a, read)
        b = _matrix_in_memory(block, b_operand, b_type, (columns, depth), lanes, transposed_b, read)
        products.append((scale_a * a) @ (scale_b * b).T)
        product = WarpgroupProduct(
            frozenset(registers_in(targets)),
            frozenset(registers_in(a_operand)) if isinstance(a_operand, Vector) else frozenset(),
            inst.mnemonic,
            np.concatenate(read),
        )
        block.warpgroups.check_fence(int(group), product)
        block.warpgroups.issue(int(group), product)
    _accumulate(block, block.items(targets), np.stack(products), scale_d, target_type, "satfinite" in inst.modifiers)


def _immediates(operands: list[Operand], a_in_registers: bool) -> tuple[int, int, bool, bool]:
    """Signs of A and B, and whether they are transposed; integer and 8-bit types have no transposition."""
    values = [operand.value for operand in operands if isinstance(operand, Immediate)]
    scale_a, scale_b, *transposed = values or (1, 1)
    if a_in_registers:
        return scale_a, scale_b, False, bool(transposed and transposed[0])
    if len(transposed) == 2:
        return scale_a, scale_b, bool(transposed[0]), bool(transposed[1])
    return scale_a, scale_b, False, False


def _accumulate(
    block: Block, targets: tuple[Operand, ...], products: np.ndarray, scale_d: Operand, type_name: str, saturates: bool
) -> None:
    """Lane 4r + c of warp w holds rows 16w + r and 16w + r + 8, columns 8j + 2c and 8j + 2c + 1."""
    tiles = products.reshape(-1, 4, 16, products.shape[-1])
    keep = block.read(scale_d, "pred")[block.lanes]
    per_register = 4 // STORAGE[type_name].itemsize
    for i, target in enumerate(targets):
        old = np.ascontiguousarray(block.read(target, "b32")[block.lanes]).view(STORAGE[type_name])
        old = old.reshape(-1, per_register).astype(np.float64)
        new = []
        for half in range(per_register):
            element = i * per_register + half
            rows, column = 8 * (element >> 1 & 1), 8 * (element >> 2) + (element & 1)
            part = tiles[:, :, rows : rows + 8, column : column + 8 - (element & 1) : 2].reshape(-1)
            total = np.where(keep, old[:, half], 0) + part
            new.append(round_accumulator(total, type_name, saturates=saturates))
        block.write_lanes(target, np.stack(new, axis=1).view(np.uint32)[:, 0])


def _matrix_in_registers(block: Block, operand: Vector, type_name: str, depth: int, lanes: np.ndarray) -> np.ndarray:
    matrix = np.zeros((4, 16, depth))
    for i, register in enumerate(operand.items):
        bits = np.ascontiguousarray(block.read(register, "b32")[lanes]).view(UNSIGNED[_ELEMENTS[type_name]])
        part = decode_elements(bits, type_name).reshape(4, 8, -1)
        rows, columns = 8 * (i & 1), (i >> 1) * part.shape[2]
        matrix[:, rows : rows + 8, columns : columns + part.shape[2]] = part
    return matrix.reshape(64, depth)


def _matrix_in_memory(
    block: Block, operand: Operand, type_name: str, shape: tuple[int, int], lanes: np.ndarray, transposed: bool,
    read: list[np.ndarray],
) -> np.ndarray:  # fmt: skip
    """Matrix behind a descriptor as ``shape``; appends the bytes read."""
    descriptor = block.read(operand, "u64")[lanes]
    if (descriptor != descriptor[0]).any():
        raise block.fail("unsupported", "threads of a warpgroup give different matrix descriptors", lanes)
    element = _ELEMENTS[type_name]
    layout = MatrixDescriptor.of(int(descriptor[0]))
    if layout.base_offset:
        raise block.fail("unsupported", "matrix descriptors with a base offset are not modelled", lanes)
    offsets = layout.offsets(*shape, element, transposed=transposed)
    places = (offsets.reshape(-1, 1) + np.arange(element)).reshape(-1)
    block.memory.check_async(places, 1, int(lanes[0]), writes=False)
    read.append(np.unique(places))
    return decode_elements(block.shared.bytes.view(UNSIGNED[element])[offsets // element], type_name)


def _groups(block: Block) -> np.ndarray:
    return np.unique(block.lanes // 128)


def _assemble_warpgroups(block: Block) -> bool:
    """Hold back warpgroups until all their warps are here."""
    if block.count % 128:
        raise block.fail("unsupported", f"wgmma in a block of {block.count} threads; it takes multiples of 128")
    needed = np.isin(block.all_lanes // 128, _groups(block))
    if block.full or not (needed & ~block.active).any():
        return True
    detail = "all threads of the warpgroup must execute it"
    return assemble(block, needed, "bad sync mask", detail, group=128, ended_may_miss=False)
