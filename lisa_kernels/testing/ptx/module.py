"""PTX text as functions, variables and instructions (PTX ISA, sections "Syntax" and "Directives")."""

from __future__ import annotations

import bisect
import dataclasses
import math
import re

from lisa_kernels.testing.ptx.declarations import Variable, parse_parameters, parse_variables
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.operands import Operand


@dataclasses.dataclass
class Instruction:
    """One instruction.

    Attributes:
        mnemonic: Opcode with modifiers, as written.
        modifiers: What follows the opcode.
        operands: Parsed operands, destination first.
        guard: The register of ``@p`` with its negation; None without.
        source: ``file:line``, from ``.loc``.
        target: Index of the instruction a branch or call goes to.
        touched: Names of all its registers.
    """

    mnemonic: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Operand | None
    text: str
    source: str
    scopes: tuple[int, ...] = ()
    target: int = -1
    touched: frozenset[str] = frozenset()

    @property
    def opcode(self) -> str:
        return self.mnemonic.split(".")[0]

    @property
    def type(self) -> str:
        """The last modifier: the type of most instructions."""
        return self.modifiers[-1]


@dataclasses.dataclass
class Function:
    """An entry or a device function; labels are keyed by the scope they stand in."""

    name: str
    is_entry: bool
    parameters: list[Variable]
    results: list[Variable]
    instructions: list[Instruction] = dataclasses.field(default_factory=list)
    register_types: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: dict[tuple[int, str], int] = dataclasses.field(default_factory=dict)
    variables: list[Variable] = dataclasses.field(default_factory=list)
    required_threads: int = 0


_LINKAGE = re.compile(r"(?:\.(?:visible|weak|extern|common)\s+)*")


class ModuleText:
    """What a PTX text declares; ``functions`` by name, module-level ``variables`` by name."""

    def __init__(self, text: str) -> None:
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, Variable] = {}
        self.target = ""
        self.text = _without_comments(text)
        self._files = {
            int(number): name for number, name in re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', self.text, re.M)
        }
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        self._scan()

    def line_of(self, place: int) -> int:
        """Line number in the PTX text of a character index."""
        return bisect.bisect_right(self._line_starts, place)

    def source(self, file_number: int, line: int) -> str:
        return f"{self._files.get(file_number, f'file {file_number}')}:{line}"

    def _scan(self) -> None:
        # body.py needs the classes of this module.
        from lisa_kernels.testing.ptx.body import parse_body

        text, place = self.text, 0
        while True:
            place = _skip_space(text, place)
            if place >= len(text):
                return
            place = _LINKAGE.match(text, place).end()
            if match := re.compile(r"\.target\s+(\w+)").match(text, place):
                self.target = match[1]
            if re.compile(r"\.(version|target|address_size|file)\b").match(text, place):
                place = _end_of_line(text, place)
            elif re.compile(r"\.section\b").match(text, place):
                place = _matching_brace(text, text.index("{", place)) + 1
            elif re.compile(r"\.pragma\b").match(text, place):
                place = text.index(";", place) + 1
            elif match := re.compile(r"\.(entry|func)\b").match(text, place):
                place = self._function(match[1] == "entry", match.end(), parse_body)
            elif match := re.compile(r"\.(global|const|shared)\b").match(text, place):
                end = text.index(";", place)
                extern = bool(re.search(r"\.extern\s+$", text[max(0, place - 40) : place]))
                for variable in parse_variables(text[place:end]):
                    variable.extern = extern
                    self.variables[variable.name] = variable
                place = end + 1
            else:
                line = text[place : _end_of_line(text, place)].strip()
                raise PtxError("unsupported", f"line {self.line_of(place)} is not understood: {line}")

    def _function(self, is_entry: bool, place: int, parse_body) -> int:
        header = re.compile(r"\s*(?:\((?P<results>[^)]*)\))?\s*(?P<name>[\w$]+)\s*(?:\((?P<parameters>[^)]*)\))?")
        match = header.match(self.text, place)
        function = Function(
            match["name"], is_entry, parse_parameters(match["parameters"]), parse_parameters(match["results"])
        )
        ends = re.compile(r"[;{]").search(self.text, match.end())
        if threads := re.search(r"\.reqntid\s+([\d,\s]+)", self.text[match.end() : ends.start()]):
            function.required_threads = math.prod(int(size) for size in threads[1].split(","))
        if ends[0] == ";":
            return ends.end()
        end = _matching_brace(self.text, ends.start())
        parse_body(self, function, ends.end(), end)
        self.functions[function.name] = function
        return end + 1


def _without_comments(text: str) -> str:
    # Inside inline assembly LLVM counts its lines on from the source line: all but the first .loc mislead.
    text = re.sub(r"// begin inline asm.*?// end inline asm", _first_location, text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    # Line numbers stay what they are.
    return re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.S)


def _first_location(assembly: re.Match[str]) -> str:
    first, *others = assembly[0].split(".loc")
    # Line numbers of the text stay what they are: only the directives go.
    kept = [".loc" + others[0]] if others else []
    return first + "".join(kept + [other[other.index("\n") :] for other in others[1:]])


def _skip_space(text: str, place: int) -> int:
    return re.compile(r"\s*").match(text, place).end()


def _end_of_line(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end + 1


def _matching_brace(text: str, place: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, place):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    raise PtxError("unsupported", "a brace is never closed; the text is not complete PTX")
