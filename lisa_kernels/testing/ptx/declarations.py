"""Declarations of variables and parameters (PTX ISA, section "Variables")."""

from __future__ import annotations

import dataclasses
import math
import re

from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.operands import split_list
from lisa_kernels.testing.ptx.values import STORAGE

_VARIABLE = re.compile(
    r"\.(?P<space>global|const|shared|local|param)\s+(?P<attributes>(?:\.align\s+\d+\s+|\.ptr\s+|\.v[24]\s+"
    r"|\.attribute\([^)]*\)\s+)*)\.(?P<type>\w+)\s+(?P<rest>.*)",
    re.S,
)
_DECLARATOR = re.compile(
    r"(?P<attributes>(?:\.ptr\s*|\.(?:global|const|shared|local)\s*|\.align\s+\d+\s*)*)(?P<name>[\w$%]+)\s*(?P<sizes>(?:\[\s*\d*\s*\])*)$"
)


@dataclasses.dataclass
class Variable:
    """A variable of a state space; ``size`` in bytes, 0 for an array of unknown size."""

    name: str
    space: str
    type: str
    size: int
    alignment: int
    initial: str = ""
    extern: bool = False


def parse_variables(text: str) -> list[Variable]:
    """Return the variables that one declaration makes, without its semicolon."""
    match = _VARIABLE.match(text.strip())
    if not match:
        raise PtxError("unsupported", f"declaration is not understood: {text.strip()[:80]}")
    storage = STORAGE.get(match["type"])
    if storage is None:
        raise PtxError("unsupported", f"variables of type .{match['type']} are not modelled: {text.strip()[:80]}")
    variables = []
    for item in split_list(match["rest"]):
        declared, _, initial = item.partition("=")
        declarator = _DECLARATOR.match(declared.strip())
        if not declarator:
            raise PtxError("unsupported", f"declaration is not understood: {text.strip()[:80]}")
        sizes = re.findall(r"\[\s*(\d*)\s*\]", declarator["sizes"])
        count = math.prod(int(size or 0) for size in sizes)
        lanes = int((re.search(r"\.v([24])", match["attributes"]) or ("", 1))[1])
        # `.ptr .align n` speaks of what a pointer points to.
        aligned = None if ".ptr" in match["attributes"] else re.search(r"\.align\s+(\d+)", match["attributes"])
        alignment = int(aligned[1]) if aligned else storage.itemsize * lanes
        size = count * storage.itemsize * lanes
        variables.append(Variable(declarator["name"], match["space"], match["type"], size, alignment, initial.strip()))
    return variables


def parse_parameters(text: str | None) -> list[Variable]:
    parameters = []
    for item in split_list(text or ""):
        if item.startswith(".reg"):
            raise PtxError("unsupported", f"functions with register parameters are not modelled: {item}")
        parameters += parse_variables(item)
    return parameters
