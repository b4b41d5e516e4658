"""The body of a function: scopes, registers, labels, source lines and instructions (PTX ISA, section "Statements")."""

from __future__ import annotations

import re

from lisa_kernels.testing.ptx.declarations import parse_variables
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.module import Function, Instruction, ModuleText
from lisa_kernels.testing.ptx.operands import OperandParser, Register, Symbol, registers_in, split_list

_SPACE = re.compile(r"\s+")
_LABEL = re.compile(r"([\w$]+)\s*:")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*")
# A prototype is named by calls through a register, which are refused.
_SKIPPED = re.compile(r"(?:\.pragma|[\w$]+\s*:\s*\.callprototype)\b[^;]*;")
_DIRECTIVE = re.compile(r"\.(reg|local|shared|param|const|global)\b([^;]*);")
_INSTRUCTION = re.compile(r"(?:@(!?)([%\w$.]+)\s+)?([a-z][\w.:]*)\s*([^;]*);")
_RANGE = re.compile(r"(.*)<(\d+)>$")
_NUMBERED = re.compile(r"(.*?)(\d+)$")


class _Scope:
    """Names of one pair of braces; registers of an inner scope hide those of an outer one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.names: set[str] = set()
        self.ranges: dict[str, int] = {}
        self.variables: dict[str, str] = {}

    def declares(self, text: str) -> bool:
        if text in self.names:
            return True
        match = _NUMBERED.match(text)
        return bool(match) and int(match[2]) < self.ranges.get(match[1], 0)


def parse_body(module: ModuleText, function: Function, start: int, end: int) -> None:
    """Fill ``function`` from the text between its braces."""
    _BodyParser(module, function).parse(start, end)
    _resolve_branches(function)


class _BodyParser:
    def __init__(self, module: ModuleText, function: Function) -> None:
        self.module, self.function = module, function
        self.scopes = [_Scope(0)]
        self.scope_count = 1
        self.operands = OperandParser(self.register, self.symbol)
        # Registers of device functions must not meet those of their callers.
        self.prefix = "" if function.is_entry else f"{function.name}."
        self.source = ""

    def parse(self, start: int, end: int) -> None:
        text, place = self.module.text, start
        while True:
            if match := _SPACE.match(text, place):
                place = match.end()
            if place >= end:
                return
            if text[place] == "{":
                self.scopes.append(_Scope(self.scope_count))
                self.scope_count += 1
                place += 1
            elif text[place] in "};":
                if text[place] == "}":
                    self.scopes.pop()
                place += 1
            elif match := _LOC.match(text, place):
                self.source = self.module.source(int(match[1]), int(match[2]))
                place = match.end()
            elif match := _SKIPPED.match(text, place):
                place = match.end()
            elif match := _LABEL.match(text, place):
                self.function.labels[self.scopes[-1].number, match[1]] = len(self.function.instructions)
                place = match.end()
            elif match := _DIRECTIVE.match(text, place):
                self._declare(match[1], match[2], match[0][:-1])
                place = match.end()
            elif match := _INSTRUCTION.match(text, place):
                self._instruction(match)
                place = match.end()
            else:
                line = text[place:end].split("\n", 1)[0].strip()
                raise PtxError("unsupported", f"line {self.module.line_of(place)} is not understood: {line}")

    def symbol(self, text: str) -> str:
        for scope in reversed(self.scopes):
            if text in scope.variables:
                return scope.variables[text]
        return text

    def register(self, text: str) -> str | None:
        for scope in reversed(self.scopes):
            if scope.declares(text):
                return self._unique(text, scope)
        return None

    def _unique(self, text: str, scope: _Scope) -> str:
        return f"{self.prefix}{text}" + (f"@{scope.number}" if scope.number else "")

    def _declare(self, space: str, rest: str, whole: str) -> None:
        if space != "reg":
            for variable in parse_variables(whole):
                unique = f"{self.function.name}.{variable.name}@{self.scopes[-1].number}"
                self.scopes[-1].variables[variable.name] = variable.name = unique
                self.function.variables.append(variable)
            return
        match = re.match(r"\s*\.(\w+)\s+(.*)", rest, re.S)
        scope = self.scopes[-1]
        for name in split_list(match[2]):
            if ranged := _RANGE.match(name):
                scope.ranges[ranged[1]] = int(ranged[2])
                names = (f"{ranged[1]}{i}" for i in range(int(ranged[2])))
            else:
                scope.names.add(name)
                names = (name,)
            self.function.register_types |= {self._unique(name, scope): match[1] for name in names}

    def _instruction(self, match: re.Match[str]) -> None:
        text = " ".join(match[0][:-1].split())
        modifiers = match[3].split(".")[1:]
        try:
            operands = tuple(self.operands.parse(item) for item in split_list(match[4]))
            guard = self.operands.parse(match[2]) if match[2] else None
        except PtxError as fault:
            fault.instruction, fault.source, fault.kernel = text, self.source, self.function.name
            raise
        if guard is not None and match[1]:
            guard = Register(guard.name, negated=True)
        touched = set().union(*map(registers_in, operands)) | (registers_in(guard) if guard else set())
        self.function.instructions.append(
            Instruction(
                match[3], tuple(modifiers), operands, guard, text, self.source,
                scopes=tuple(scope.number for scope in self.scopes), touched=frozenset(touched),
            )
        )  # fmt: skip


def _resolve_branches(function: Function) -> None:
    for instruction in function.instructions:
        if instruction.opcode != "bra":
            continue
        label = instruction.operands[0]
        for scope in reversed(instruction.scopes):
            if isinstance(label, Symbol) and (scope, label.name) in function.labels:
                instruction.target = function.labels[scope, label.name]
                break
        else:
            raise PtxError("unsupported", "the label of a branch is not there", instruction.text, instruction.source)
