"""A kernel's arguments: what C++ says it takes, what Python gives, and the bytes between them."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_INTEGERS = {
    "i1": ctypes.c_int8, "i2": ctypes.c_int16, "i4": ctypes.c_int32, "i8": ctypes.c_int64, "u1": ctypes.c_uint8,
    "u2": ctypes.c_uint16, "u4": ctypes.c_uint32, "u8": ctypes.c_uint64, "b1": ctypes.c_bool,
}  # fmt: skip
_FLOATS = {"f4": torch.float32, "f8": torch.float64, "h2": torch.float16, "g2": torch.bfloat16}
# What a pointer of a type may point to; other types (structs, float4, char) are taken on trust.
_ELEMENTS = {
    "f4": (torch.float32,), "f8": (torch.float64,), "h2": (torch.float16,), "g2": (torch.bfloat16,),
    "i2": (torch.int16,), "i4": (torch.int32,), "i8": (torch.int64,), "u2": (torch.uint16,),
    "u4": (torch.uint32, torch.int32), "u8": (torch.uint64, torch.int64), "b1": (torch.bool, torch.uint8),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a kernel may touch: from the first to the last element of a tensor.

    Attributes:
        address: Of the first byte.
        size: In bytes.
        name: For messages.
        owner: Keeps the memory alive.
    """

    address: int
    size: int
    name: str
    owner: Any


@dataclasses.dataclass(frozen=True)
class Packed:
    """An argument as the kernel takes it.

    Attributes:
        data: Its bytes.
        pointers: (position in ``data``, address) of every pointer in it that is not null.
    """

    data: bytes
    pointers: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class StructArgument:
    """A struct whose pointers are tensors; made by ``struct_argument``."""

    value: ctypes.Structure
    memories: tuple[Memory, ...]


def struct_argument(kind: type[ctypes.Structure], fields: Mapping[str, Any]) -> StructArgument:
    """Return a struct passed by value, such as an op's parameters.

    Args:
        kind: The struct's layout; pointers are ``ctypes.c_void_p``.
        fields: Value by field name: a CPU tensor, a numpy array or None for a pointer, else a number.  A field left
            out is 0.

    Raises:
        ValueError: A name is no field of the struct.
    """
    declared = [entry[0] for entry in kind._fields_]
    value, memories = kind(), []
    for name, given in fields.items():
        if name not in declared:
            raise ValueError(f"struct_argument: {kind.__name__} has no field {name}; it has {', '.join(declared)}.")
        if isinstance(given, Tensor | np.ndarray):
            memory = memory_of(given, name)
            memories.append(memory)
            setattr(value, name, memory.address)
        else:
            setattr(value, name, given)
    return StructArgument(value, tuple(memories))


def memory_of(array: Tensor | np.ndarray, name: str) -> Memory:
    """Return the memory between the first and the last element of a tensor.

    Raises:
        ValueError: It is not on the CPU.
    """
    if isinstance(array, np.ndarray):
        array = torch.from_numpy(array)
    if array.device.type != "cpu":
        raise ValueError(f"launch: {name} is on {array.device}; it takes CPU tensors.")
    extent = 1 + sum((size - 1) * stride for size, stride in zip(array.shape, array.stride(), strict=True))
    return Memory(array.data_ptr(), (extent if array.numel() else 0) * array.element_size(), name, array)


def merged(memories: Sequence[Memory]) -> list[Memory]:
    """Return the pieces of memory, those that overlap made one: arguments that alias go on doing so."""
    pieces: list[Memory] = []
    for memory in sorted(memories, key=lambda memory: memory.address):
        last = pieces[-1] if pieces else None
        if last and memory.address < last.address + last.size:
            end = max(last.address + last.size, memory.address + memory.size)
            name = last.name if memory.name == last.name else f"{last.name} and {memory.name}"
            pieces[-1] = Memory(last.address, end - last.address, name, (last.owner, memory.owner))
        else:
            pieces.append(memory)
    return pieces


def piece_of(address: int, pieces: Sequence[Memory]) -> int | None:
    """Return the position of the piece of memory that an address points into, or None."""
    for position, piece in enumerate(pieces):
        if piece.address <= address < piece.address + max(piece.size, 1):
            return position
    return None


def pack(kernel: str, signature: Sequence[str], values: Sequence[Any]) -> tuple[list[Packed], list[Memory]]:
    """Return the arguments' bytes and the memory they point to.

    Args:
        kernel: For messages.
        signature: A type code for each parameter (``type_code`` in ``csrc/testing/exports.h``).
        values: Tensors, arrays, numbers, None, ctypes structs or ``StructArgument``.

    Raises:
        ValueError: Wrong number of arguments, or a number outside its type.
        TypeError: An argument is not what the parameter takes.
    """
    if len(values) != len(signature):
        raise ValueError(
            f"launch: {kernel} gets {len(values)} arguments; it takes {len(signature)}: {' '.join(signature)}."
        )
    packed, memories = [], []
    for position, (code, value) in enumerate(zip(signature, values, strict=True)):
        name = f"argument {position} of {kernel}"
        if code[0] == "p":
            argument, more = _pointer(name, code[1:], value)
        elif code[0] == "s":
            argument, more = _struct(name, int(code[1:]), value)
        else:
            argument, more = _number(name, code, value), []
        packed.append(argument)
        memories += more
    return packed, memories


def _pointer(name: str, element: str, value: Any) -> tuple[Packed, list[Memory]]:
    if value is None:
        return Packed(bytes(8)), []
    if not isinstance(value, Tensor | np.ndarray):
        raise TypeError(f"launch: {name} is a {type(value).__name__}; it takes a CPU tensor, a numpy array or None.")
    memory = memory_of(value, name)
    dtype = torch.from_numpy(value).dtype if isinstance(value, np.ndarray) else value.dtype
    allowed = _ELEMENTS.get(element)
    if allowed and dtype not in allowed:
        raise TypeError(f"launch: {name} has dtype {dtype}; it takes {' or '.join(map(str, allowed))}.")
    return Packed(memory.address.to_bytes(8, "little"), ((0, memory.address),)), [memory]


def _struct(name: str, size: int, value: Any) -> tuple[Packed, list[Memory]]:
    memories: tuple[Memory, ...] = ()
    if isinstance(value, StructArgument):
        value, memories = value.value, value.memories
    if not isinstance(value, ctypes.Structure | ctypes.Array):
        raise TypeError(f"launch: {name} is a {type(value).__name__}; it takes a ctypes struct or a struct_argument.")
    if ctypes.sizeof(value) != size:
        raise ValueError(f"launch: {name} has {ctypes.sizeof(value)} bytes; the kernel's struct has {size}.")
    return Packed(bytes(value), tuple(_pointers_in(value, 0))), list(memories)


def _pointers_in(value: ctypes.Structure | ctypes.Array, start: int) -> list[tuple[int, int]]:
    if isinstance(value, ctypes.Array):
        size = ctypes.sizeof(value) // max(len(value), 1)
        parts = [(start + i * size, type(value)._type_, value[i]) for i in range(len(value))]
    else:
        fields = [(entry[0], entry[1]) for entry in value._fields_]
        parts = [(start + getattr(type(value), name).offset, kind, getattr(value, name)) for name, kind in fields]
    found = []
    for position, kind, part in parts:
        if isinstance(part, ctypes.Structure | ctypes.Array):
            found += _pointers_in(part, position)
        elif kind is ctypes.c_void_p and part:
            found.append((position, part))
    return found


def _number(name: str, code: str, value: Any) -> Packed:
    if isinstance(value, Tensor | np.ndarray) or not isinstance(value, int | float | np.number):
        raise TypeError(f"launch: {name} is a {type(value).__name__}; it takes a number.")
    if code in _FLOATS:
        return Packed(bytes(torch.tensor([float(value)], dtype=_FLOATS[code]).view(torch.uint8).tolist()))
    if int(value) != value:
        raise TypeError(f"launch: {name} is {value}; it takes an integer.")
    kind = _INTEGERS[code]
    if kind(int(value)).value != int(value):
        raise ValueError(f"launch: {name} is {value}, which does not fit into {8 * ctypes.sizeof(kind)} bits.")
    return Packed(bytes(kind(int(value))))
