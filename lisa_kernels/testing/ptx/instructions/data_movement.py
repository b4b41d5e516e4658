"""Moves, loads and stores (PTX ISA, section "Data Movement and Conversion Instructions")."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.instructions.notation import SCOPE, STATE_SPACE
from lisa_kernels.testing.ptx.memory import WINDOW_SIZE, WINDOWS
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Register, Vector
from lisa_kernels.testing.ptx.syntax import instruction
from lisa_kernels.testing.ptx.values import STORAGE, UNSIGNED

_ANY = "(pred|b8|u8|s8|b16|u16|s16|b32|u32|s32|b64|u64|s64|f16|bf16|f32|f64|f16x2|bf16x2)"
# Hints change no result.
_L1 = "[.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate]"
_L2 = "[.L2::evict_last|.L2::evict_normal|.L2::evict_first][.L2::cache_hint][.L2::64B|.L2::128B|.L2::256B]"
_LOAD_CACHE = "[.ca|.cg|.cs|.lu|.cv]"
_STORE_CACHE = "[.wb|.cg|.cs|.wt]"
_VECTOR = "[.v2|.v4|.v8]"
_STRONG = {"relaxed", "acquire", "release", "volatile"}
_SPACES = ("global", "shared", "local", "const", "param")


@instruction(f"mov.{_ANY}")
def move(block: Block, inst: Instruction) -> None:
    target, source = inst.operands
    if isinstance(target, Vector):
        _unpack(block, target, source)
    elif isinstance(source, Vector):
        _pack(block, target, source, inst.type)
    else:
        block.write(target, block.read(source, inst.type))


def _unpack(block: Block, target: Vector, source) -> None:
    width = sum(_register_bytes(block, item) for item in target.items)
    if isinstance(source, Register):
        width = _register_bytes(block, source)
    element = width // len(target.items)
    parts = np.ascontiguousarray(block.read(source, f"b{8 * width}")).view(UNSIGNED[element])
    for i, item in enumerate(target.items):
        block.write(item, parts[i :: len(target.items)])


def _pack(block: Block, target, source: Vector, type_name: str) -> None:
    element = STORAGE[type_name].itemsize // len(source.items)
    parts = [block.read(item, f"b{8 * element}") for item in source.items]
    block.write(target, np.stack(parts, axis=1).view(UNSIGNED[STORAGE[type_name].itemsize])[:, 0])


def _register_bytes(block: Block, register: Register) -> int:
    return STORAGE[block.launch.register_type(register.name)].itemsize if register.name != "_" else 0


@instruction(
    f"ld[.weak]{STATE_SPACE}{_LOAD_CACHE}{_L1}{_L2}{_VECTOR}.{_ANY}",
    f"ld.global{_LOAD_CACHE}.nc{_L1}{_L2}{_VECTOR}.{_ANY}",
    f"ld.(relaxed|acquire){SCOPE}{STATE_SPACE}{_L1}{_L2}{_VECTOR}.{_ANY}",
    f"ld.volatile{STATE_SPACE}{_VECTOR}.{_ANY}",
    f"ld.global{SCOPE}.(relaxed|acquire){_VECTOR}.{_ANY}",
    f"ld.global.(relaxed|acquire){SCOPE}{_VECTOR}.{_ANY}",
    f"ldu.global{_VECTOR}.{_ANY}",
)
def load(block: Block, inst: Instruction) -> None:
    targets = block.items(inst.operands[0])
    element = STORAGE[inst.type]
    space, strong = space_of(inst), bool(_STRONG & set(inst.modifiers))
    addresses, width = block.addresses(inst.operands[1]), element.itemsize * len(targets)
    data = block.memory.load(space, addresses, width, block.lanes, strong=strong)
    if strong:
        block.memory.synchronise(
            space, addresses, block.lanes,
            releases=False, acquires=True, fences=False, block_scope="cta" in inst.modifiers,
        )  # fmt: skip
    # Signed types are extended by their sign in a wider register.
    values = data.view(element if element.kind == "i" else UNSIGNED[element.itemsize])
    for i, target in enumerate(targets):
        block.write_lanes(target, values[:, i])


@instruction(
    f"st[.weak]{STATE_SPACE}{_STORE_CACHE}{_L1}{_L2}{_VECTOR}.{_ANY}",
    f"st.(relaxed|release){SCOPE}{STATE_SPACE}{_L1}{_L2}{_VECTOR}.{_ANY}",
    f"st.volatile{STATE_SPACE}{_VECTOR}.{_ANY}",
    f"st.global{SCOPE}.(relaxed|release){_VECTOR}.{_ANY}",
    f"st.global.(relaxed|release){SCOPE}{_VECTOR}.{_ANY}",
)
def store(block: Block, inst: Instruction) -> None:
    sources = block.items(inst.operands[1])
    space, strong = space_of(inst), bool(_STRONG & set(inst.modifiers))
    addresses = block.addresses(inst.operands[0])
    bits = f"b{8 * STORAGE[inst.type].itemsize}"
    values = np.stack([_stored_bits(block, source, inst.type, bits) for source in sources], axis=1)
    if strong:
        block.memory.synchronise(
            space, addresses, block.lanes,
            releases=True, acquires=False, fences="release" in inst.modifiers, block_scope="cta" in inst.modifiers,
        )  # fmt: skip
    block.memory.store(
        space, addresses, values.view(np.uint8), block.lanes, strong=strong, element=STORAGE[inst.type].itemsize
    )


def _stored_bits(block: Block, source, type_name: str, bits: str) -> np.ndarray:
    values = block.read(source, type_name)
    values = values if block.full else values[block.lanes]
    return np.ascontiguousarray(values).view(STORAGE[bits])


def space_of(inst: Instruction) -> str:
    """State space that a memory instruction names; ``generic`` if none."""
    for modifier in inst.modifiers:
        space = modifier.split("::")[0]
        if space in _SPACES:
            return space
    return "generic"


@instruction("cvta.(global|const|shared|shared::cta|local|param).(u32|u64)", "cvta.param::entry.(u32|u64)")
def to_generic(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    window = WINDOWS.get(inst.modifiers[0].split("::")[0], 0)
    block.write(inst.operands[0], value + value.dtype.type(window) if window else value)


@instruction("cvta.to.(global|const|shared|shared::cta|local|param).(u32|u64)", "cvta.to.param::entry.(u32|u64)")
def from_generic(block: Block, inst: Instruction) -> None:
    value = block.read(inst.operands[1], inst.type)
    window = WINDOWS.get(inst.modifiers[1].split("::")[0], 0)
    block.write(inst.operands[0], value - value.dtype.type(window) if window else value)


@instruction("isspacep.(global|const|shared|shared::cta|local|param)")
def is_in_space(block: Block, inst: Instruction) -> None:
    address = block.read(inst.operands[1], "u64").astype(np.int64)
    space = inst.modifiers[0].split("::")[0]
    if space in WINDOWS:
        inside = (address >= WINDOWS[space]) & (address < WINDOWS[space] + WINDOW_SIZE)
    else:
        # Constant variables lie in global memory here, as they do for generic addresses of kernels without banks.
        inside = np.full(block.count, space == "global") & (address < min(WINDOWS.values()))
    block.write(inst.operands[0], inside)


@instruction(
    "prefetch[.global|.local].(L1|L2)", "prefetch.global.(L2::evict_last|L2::evict_normal)", "prefetchu.L1",
    "discard[.global].L2", "applypriority[.global].L2::evict_normal",
)  # fmt: skip
def hint(block: Block, inst: Instruction) -> None:
    """Caches are not modelled."""


@instruction(
    "createpolicy.fractional.L2::(evict_last|evict_normal|evict_first|evict_unchanged).b64",
    "createpolicy.fractional.L2::(evict_last|evict_normal|evict_first|evict_unchanged)"
    ".L2::(evict_first|evict_unchanged).b64",
)
def create_policy(block: Block, inst: Instruction) -> None:
    block.write(inst.operands[0], np.zeros(block.count, np.uint64))
