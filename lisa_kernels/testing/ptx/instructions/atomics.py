"""Atomic operations (PTX ISA, section "Parallel Synchronization and Communication Instructions: atom, red").

Lanes take their turns in ascending order; on the device any order is possible.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.data_movement import space_of
from lisa_kernels.testing.ptx.instructions.notation import SCOPE
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Operand
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import PACKED, SCALAR_FLOATS, STORAGE, UNSIGNED, decode, encode

_SPACE = "[.global|.shared|.shared::cta]"
_ORDER = "[.relaxed|.acquire|.release|.acq_rel]"
# Compilers write order, scope and space in any sequence.
_QUALIFIERS = (f"{_ORDER}{SCOPE}{_SPACE}", f"{_SPACE}{SCOPE}{_ORDER}", f"{_SPACE}{_ORDER}{SCOPE}")
_HINT = "[.L2::cache_hint]"
_OPERATIONS = (
    "(and|or|xor).(b32|b64)", "add.(u32|s32|u64|f32|f64)", "(min|max).(u32|s32|u64|s64)", "(inc|dec).u32",
    "add.noftz.(f16|bf16|f16x2|bf16x2)", "add.(f16x2|bf16x2)",
)  # fmt: skip
_VECTORS = ("add.(v2|v4).f32", "add.noftz.(v2|v4|v8).(f16|bf16)", "add.noftz.(v2|v4).(f16x2|bf16x2)")


def _forms(opcode: str, operations: tuple[str, ...]) -> list[str]:
    forms = []
    for qualifiers in _QUALIFIERS:
        for operation in operations:
            name, _, types = operation.rpartition(".")
            forms.append(f"{opcode}{qualifiers}.{name}{_HINT}.{types}")
    # libcu++ writes the operation first.
    for operation in operations:
        name, _, types = operation.rpartition(".")
        forms.append(f"{opcode}.{name}{_ORDER}{SCOPE}{_SPACE}.{types}")
    return forms


def _inc(old: np.ndarray, limit: np.ndarray) -> np.ndarray:
    return np.where(old >= limit, np.uint32(0), old + np.uint32(1))


def _dec(old: np.ndarray, limit: np.ndarray) -> np.ndarray:
    return np.where((old == 0) | (old > limit), limit, old - np.uint32(1))


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "inc": _inc,
    "dec": _dec,
    "exch": lambda old, new: new,
    "cas": lambda old, expected, new: np.where(old == expected, new, old),
}


@instruction(*_forms("atom", (*_OPERATIONS, *_VECTORS, "exch.(b32|b64)", "cas.(b16|b32|b64)")))
def atomic(block: Block, inst: Instruction) -> None:
    # A cache policy may follow.
    sources = inst.operands[2 : 4 if "cas" in inst.modifiers else 3]
    _modify(block, inst, inst.operands[1], sources, inst.operands[0])


@instruction(*_forms("red", (*_OPERATIONS, *_VECTORS)))
def reduce(block: Block, inst: Instruction) -> None:
    _modify(block, inst, inst.operands[0], inst.operands[1:2], None)


def _modify(
    block: Block, inst: Instruction, address: Operand, sources: tuple[Operand, ...], target: Operand | None
) -> None:
    function = _FUNCTIONS[next(modifier for modifier in inst.modifiers if modifier in _FUNCTIONS)]
    space, addresses = space_of(inst), block.addresses(address)
    columns = [
        np.stack([block.read(item, inst.type)[block.lanes] for item in block.items(source)], axis=1)
        for source in sources
    ]
    count = columns[0].shape[1]
    width = STORAGE[inst.type].itemsize * count
    block.memory.note_atomic(space, addresses, width, block.lanes)
    block.memory.synchronise(
        space, addresses, block.lanes,
        releases=True,
        acquires="release" not in inst.modifiers,
        fences="acq_rel" in inst.modifiers or "release" in inst.modifiers,
        block_scope="cta" in inst.modifiers,
    )  # fmt: skip
    element = PACKED.get(inst.type, inst.type)
    before, changed = np.empty((len(block.lanes), width), np.uint8), False
    for i, (place, lane) in enumerate(zip(addresses.tolist(), block.lanes.tolist(), strict=True)):
        memory, offset = block.memory.locate(space, place, width, lane)
        current = memory[offset : offset + width]
        before[i] = current
        old = decode(current.copy().view(STORAGE[element]), element)
        new = function(old, *(_elements(column[i], element) for column in columns))
        stored = encode(new, element) if element in SCALAR_FLOATS else new
        current[:] = stored.astype(STORAGE[element]).view(np.uint8)
        changed = changed or bool((current != before[i]).any())
    if changed:
        block.threads.progress()
    if target is not None:
        values = before.view(UNSIGNED[STORAGE[inst.type].itemsize])
        for i, item in enumerate(block.items(target)):
            block.write_lanes(item, values[:, i])


def _elements(values: np.ndarray, element: str) -> np.ndarray:
    return decode(np.ascontiguousarray(values).view(STORAGE[element]), element)
