"""Mutants of PTX text: what a compiler could get wrong in synchronisation, predicates and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lisa_kernels.testing.mutation.mutant import Mutant

_STATEMENT = re.compile(r"^\s*(?P<guard>@!?%\w+\s+)?(?P<opcode>[a-z][\w.:]*)(?P<operands>\s[^;]*|);")
_BARRIERS = (
    "bar.sync", "bar.warp.sync", "barrier.sync", "barrier.cta.sync", "fence.proxy.async", "fence.proxy.tensormap",
    "wgmma.fence", "mbarrier.arrive",
)  # fmt: skip
_WAITS = ("cp.async.wait_group", "wgmma.wait_group", "cp.async.bulk.wait_group")
_GLOBAL = re.compile(r"(ld|st|atom|red)\.(\w+\.)*global\b|cp\.async\.c[ag]\.")
_MEMORY = re.compile(r"(ld|st)\.(\w+(::\w+)?\.)*(global|shared)\b|cp\.async\.c[ag]\.|ldmatrix|stmatrix")
_ADDRESS = re.compile(r"\[\s*(?P<base>%?[\w$]+)\s*(?:\+\s*(?P<offset>-?\d+)\s*)?\]")
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


def ptx_mutants(text: str) -> list[Mutant]:
    """Return every mutant of a PTX text: Triton's ``asm["ptx"]`` or nvcc's output."""
    lines = text.split("\n")
    mutants = []
    for number, line in enumerate(lines):
        statement = _STATEMENT.match(line)
        if statement is None:
            continue
        for kind, after in _changes(statement):
            changed = [*lines[:number], after, *lines[number + 1 :]]
            before, told = line.strip(), " ".join(after.split())
            mutants.append(Mutant(kind, number + 1, before, told, "\n".join(changed)))
    return mutants


def _changes(statement: re.Match[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, the line instead) for one statement."""
    guard, opcode, operands = statement["guard"] or "", statement["opcode"], statement["operands"]
    if opcode.startswith(_BARRIERS):
        yield "barrier", ""
    elif opcode.startswith(_WAITS):
        yield "wait", f"\t{guard}{opcode} {int(operands) + 1};"
    elif opcode.startswith(("mbarrier.try_wait", "mbarrier.test_wait")):
        yield "wait", f"\t{guard}setp.eq.u32 {operands.split(',')[0].strip()}, 0, 0;"
    elif opcode == "cp.async.wait_all":
        yield "wait", ""
    if _GLOBAL.match(opcode):
        yield from _unmasked(guard, opcode, operands)
    if _MEMORY.match(opcode) and ".param" not in opcode:
        yield from _displaced(guard, opcode, operands)


def _unmasked(guard: str, opcode: str, operands: str) -> Iterator[tuple[str, str]]:
    if guard:
        yield "mask", f"\t{opcode}{operands};"
    parts = operands.rsplit(",", 1)
    # The last of four operands says how many bytes are copied; the rest of the destination becomes zero.
    if opcode.startswith("cp.async") and operands.count(",") == 3:
        yield "mask", f"\t{guard}{opcode}{parts[0]};"


def _displaced(guard: str, opcode: str, operands: str) -> Iterator[tuple[str, str]]:
    width = _access_bytes(opcode, operands)
    for address in _ADDRESS.finditer(operands):
        offset = int(address["offset"] or 0) + width
        moved = f"{operands[: address.start()]}[{address['base']}+{offset}]{operands[address.end() :]}"
        yield "index", f"\t{guard}{opcode}{moved};"
        if opcode.startswith("st."):
            yield "store", f"\t{guard}{opcode}{operands};\n\t{guard}{opcode}{moved};"


def _access_bytes(opcode: str, operands: str) -> int:
    """Return the bytes that one thread moves, which keeps a displaced access aligned."""
    if opcode.startswith("cp.async"):
        return int(re.search(r",\s*(0x[0-9a-fA-F]+|\d+)\s*(,|$)", operands)[1], 0)
    if "matrix" in opcode:
        return 16
    vector = re.search(r"\.v(\d)", opcode)
    return int(vector[1] if vector else 1) * _BYTES[re.search(r"\.[a-z]+(\d+)$", opcode)[1]]
