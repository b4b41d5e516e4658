"""Operands of instructions (PTX ISA, section "Instruction Operands")."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.values import UNSIGNED


@dataclasses.dataclass(frozen=True)
class Register:
    """A register of one function; ``negated`` stands for ``!p``."""

    name: str
    negated: bool = False


@dataclasses.dataclass(frozen=True)
class Special:
    """A special register such as ``%tid.x``."""

    name: str


@dataclasses.dataclass(frozen=True)
class Immediate:
    """A literal; ``bits`` of a ``0f``/``0d`` literal, else an integer."""

    value: int
    float_bits: int = 0

    def as_storage(self, storage: np.dtype) -> np.ndarray:
        """One element of a dtype."""
        if self.float_bits:
            written = np.array([self.value], UNSIGNED[self.float_bits // 8])
            if storage.itemsize * 8 == self.float_bits:
                return written.view(storage)
            number = written.view(f"f{self.float_bits // 8}")
            return number.astype(storage)
        if storage.kind == "b":
            return np.array([bool(self.value)])
        if storage.kind == "f":
            return np.array([self.value], storage)
        mask = (1 << 8 * storage.itemsize) - 1
        return np.array([self.value & mask], UNSIGNED[storage.itemsize]).view(storage)


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A variable, label or function, plus a byte offset."""

    name: str
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Address:
    """``[base + offset]``; further operands of tensor addresses stand in ``coordinates``."""

    base: Register | Symbol | Immediate
    offset: int = 0
    coordinates: tuple[Operand, ...] = ()


@dataclasses.dataclass(frozen=True)
class Vector:
    """``{a, b, ...}``."""

    items: tuple[Operand, ...]


@dataclasses.dataclass(frozen=True)
class Pair:
    """``p|q`` of setp, shfl and elect."""

    first: Operand
    second: Operand


@dataclasses.dataclass(frozen=True)
class Arguments:
    """``(a, b, ...)`` of call."""

    items: tuple[Operand, ...]


Operand: TypeAlias = Register | Special | Immediate | Symbol | Address | Vector | Pair | Arguments

SPECIAL_NAMES = frozenset(
    f"%{name}"
    for name in (
        *(f"{vector}.{axis}" for vector in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"),
        *("laneid", "warpid", "nwarpid", "smid", "nsmid", "gridid", "clock", "clock_hi", "clock64", "globaltimer"),
        *("globaltimer_lo", "globaltimer_hi", "dynamic_smem_size", "total_smem_size"),
        *(f"lanemask_{which}" for which in ("eq", "le", "lt", "ge", "gt")),
    )
)
_HEX_FLOAT = re.compile(r"0([fFdD])([0-9a-fA-F]+)$")
_INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_DECIMAL = re.compile(r"-?\d+\.\d*([eE][-+]?\d+)?$")


def split_list(text: str) -> list[str]:
    """Split at commas that are not inside brackets."""
    items, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        if letter in "{[(":
            depth += 1
        elif letter in "}])":
            depth -= 1
        elif letter == "," and depth == 0:
            items.append(text[start:place].strip())
            start = place + 1
    last = text[start:].strip()
    return [*items, last] if last else items


class OperandParser:
    """Parses operands of one function.

    Args:
        register: Maps a register's name in the current scope to one that is unique in the program, or gives None.
        symbol: Maps a variable's name likewise; a name it does not know stays as it is.
    """

    def __init__(self, register: Callable[[str], str | None], symbol: Callable[[str], str]) -> None:
        self.register, self.symbol = register, symbol

    def parse(self, text: str) -> Operand:
        text = text.strip()
        if text[0] == "{":
            return Vector(tuple(self.parse(item) for item in split_list(text[1:-1])))
        if text[0] == "(":
            return Arguments(tuple(self.parse(item) for item in split_list(text[1:-1])))
        if text[0] == "[":
            return self._address(text[1:-1])
        if "|" in text:
            first, second = text.split("|")
            return Pair(self.parse(first), self.parse(second))
        if text[0] == "!":
            register = self.parse(text[1:])
            return Register(register.name, negated=True)
        return self._simple(text)

    def _simple(self, text: str) -> Operand:
        if text == "_":
            return Register("_")
        name = self.register(text)
        if name is not None:
            return Register(name)
        if text == "%tid" or text in SPECIAL_NAMES:
            return Special(text)
        if match := _HEX_FLOAT.match(text):
            return Immediate(int(match[2], 16), 32 if match[1] in "fF" else 64)
        if _INTEGER.match(text):
            return Immediate(parse_integer(text))
        if _DECIMAL.match(text):
            return Immediate(int(np.array([float(text)]).view(np.uint64)[0]), 64)
        if text.startswith("%"):
            raise PtxError("unsupported", f"{text} is neither a declared register nor a special register known here")
        base, offset = _with_offset(text)
        if not re.match(r"[A-Za-z_$%][\w$]*$", base):
            raise PtxError("unsupported", f"operand {text} is not understood")
        return Symbol(self.symbol(base), offset)

    def _address(self, text: str) -> Address:
        parts = split_list(text)
        base, offset = _with_offset(parts[0])
        return Address(self._simple(base), offset, tuple(self.parse(part) for part in parts[1:]))


def _with_offset(text: str) -> tuple[str, int]:
    match = re.match(r"(.+?)\s*([+-])\s*(-?\w+)$", text.strip(), re.S)
    if not match:
        return text.strip(), 0
    offset = parse_integer(match[3])
    return match[1].strip(), -offset if match[2] == "-" else offset


def parse_integer(text: str) -> int:
    """An integer literal; a leading 0 is octal, as in C."""
    text = text.rstrip("U")
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if re.match(r"0[0-7]+$", digits):
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def registers_in(operand: Operand) -> set[str]:
    """Names of the registers that an operand reads or writes."""
    match operand:
        case Register(name):
            return {name} - {"_"}
        case Address(base, _, coordinates):
            return registers_in(base).union(*map(registers_in, coordinates))
        case Vector(items) | Arguments(items):
            return set().union(*map(registers_in, items))
        case Pair(first, second):
            return registers_in(first) | registers_in(second)
    return set()
