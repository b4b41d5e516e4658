"""The table of instructions: which forms are understood and who executes them.

A handler declares the forms it implements in the notation below, close to the syntax lines of the PTX ISA.  An opcode
or a modifier outside every form is refused before the kernel runs: nothing is skipped.

    add[.cc].(s32|u32)           [...] is optional, (a|b) one of, everything else stands for itself
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from lisa_kernels.testing.ptx.faults import PtxError

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx.block import Block
    from lisa_kernels.testing.ptx.module import Instruction

Handler = Callable[["Block", "Instruction"], None]


@dataclasses.dataclass(frozen=True)
class Form:
    """One syntax line and its handler."""

    syntax: str
    pattern: re.Pattern[str]
    handler: Handler


_forms: dict[str, list[Form]] = {}


def instruction(*forms: str) -> Callable[[Handler], Handler]:
    """Register a handler for syntax lines; a mnemonic belongs to the first line that matches it."""

    def register(handler: Handler) -> Handler:
        for syntax in forms:
            opcode = re.match(r"[a-z0-9]+", syntax)[0]
            _forms.setdefault(opcode, []).append(Form(syntax, _compile(syntax), handler))
        return handler

    return register


def _compile(syntax: str) -> re.Pattern[str]:
    pattern = syntax.replace(".", r"\.").replace("[", "(?:").replace("]", ")?").replace("(", "(").replace("#", r"\d+")
    return re.compile(pattern + "$")


@functools.cache
def find_handler(mnemonic: str) -> Handler:
    """Return what executes a mnemonic with all its modifiers.

    Raises:
        PtxError: Of kind ``unsupported``, with the known forms that come nearest.
    """
    opcode = mnemonic.split(".")[0]
    forms = _forms.get(opcode)
    if forms is None:
        raise PtxError("unsupported", f"instruction {opcode} is not modelled ({mnemonic})")
    for form in forms:
        if form.pattern.match(mnemonic):
            return form.handler
    known = "; ".join(_nearest(mnemonic, [form.syntax for form in forms]))
    raise PtxError("unsupported", f"{mnemonic} is not modelled; known forms: {known}")


def _nearest(mnemonic: str, forms: list[str], shown: int = 3) -> list[str]:
    """The forms that share most modifiers with a mnemonic."""
    wanted = set(mnemonic.split("."))

    def distance(form: str) -> int:
        required = set(re.split(r"[.|()\[\]]+", re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "", form)))
        known = set(re.split(r"[.|()\[\]]+", form))
        return len(wanted - known) + len(required - wanted - {""})

    return sorted(forms, key=distance)[:shown]


def supported() -> dict[str, list[str]]:
    """Return the syntax lines of every instruction, by opcode; ``#`` stands for a number."""
    import lisa_kernels.testing.ptx.instructions  # noqa: F401  registers all handlers

    return {opcode: [form.syntax for form in _forms[opcode]] for opcode in sorted(_forms)}
