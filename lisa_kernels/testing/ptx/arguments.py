"""Arguments of a launch as the bytes of the kernel's parameters (PTX ISA, section "Kernel Function Parameters")."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lisa_kernels.testing.ptx.buffers import Buffer
from lisa_kernels.testing.ptx.declarations import Variable
from lisa_kernels.testing.ptx.descriptors import HostTensorMap
from lisa_kernels.testing.ptx.program import Program


def pack(program: Program, args: Sequence[Any], names: Sequence[str], buffers: list[Buffer]) -> np.ndarray:
    """Lay the arguments out as parameters, and append the buffers they point to."""
    parameters = program.function.parameters
    if len(args) != len(parameters):
        raise ValueError(f"emulate: {program.name} has {len(parameters)} parameters; it was given {len(args)}.")
    packed = bytearray(program.parameter_size)
    for i, (parameter, value) in enumerate(zip(parameters, args, strict=True)):
        name = _label(i, names)
        place = program.symbols[parameter.name][1]
        packed[place : place + parameter.size] = _parameter_bytes(value, parameter, name, buffers)
    return np.frombuffer(bytes(packed), np.uint8)


def chosen(wanted: Collection[str | int], names: Sequence[str], buffers: Sequence[Buffer], what: str) -> list[Buffer]:
    """Return the buffers that an option names: arguments by position or name, others as faults call them."""
    known: dict[str | int, Buffer] = {buffer.name: buffer for buffer in buffers}
    labels = [_label(i, names) for i in range(len(buffers) + len(names))]
    known |= {i: known[label] for i, label in enumerate(labels) if label in known}
    known |= {name: known[_label(i, names)] for i, name in enumerate(names) if _label(i, names) in known}
    for item in wanted:
        if item not in known:
            options = ", ".join(repr(key) for key in known)
            raise ValueError(f"emulate: {what} names {item!r}, no tensor of the launch; it takes {options}.")
    return [known[item] for item in wanted]


def _label(place: int, names: Sequence[str]) -> str:
    return f"argument {place}" + (f" ({names[place]})" if place < len(names) else "")


def _parameter_bytes(value: Any, parameter: Variable, name: str, buffers: list[Buffer]) -> bytes:
    if isinstance(value, HostTensorMap):
        buffers.append(Buffer.of(value.base, name))
        value = value.encoded
    if hasattr(value, "data_ptr") or hasattr(value, "ctypes"):
        if parameter.size != 8 or parameter.type == "f64":
            raise TypeError(
                f"emulate: {name} is a {type(value).__name__}; the kernel takes a .{parameter.type} number."
            )
        buffer = Buffer.of(value, name)
        buffers.append(buffer)
        value = buffer.start
    if value is None:
        value = 0
    if isinstance(value, bytes):
        if len(value) != parameter.size:
            raise ValueError(f"emulate: {name} has {len(value)} bytes; the kernel takes {parameter.size}.")
        return value
    if parameter.type in ("f32", "f64"):
        return struct.pack("<f" if parameter.type == "f32" else "<d", value)
    if not isinstance(value, int):
        raise TypeError(f"emulate: {name} is {type(value).__name__}; the kernel takes .{parameter.type}.")
    return (value & ((1 << 8 * parameter.size) - 1)).to_bytes(parameter.size, "little")


def three(sizes: Sequence[int], what: str, fill: int = 1) -> tuple[int, int, int]:
    sizes = tuple(int(size) for size in sizes)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"emulate: {what} is {sizes}; it takes one to three numbers.")
    return (*sizes, *(fill,) * (3 - len(sizes)))
