"""SASS text to instructions: addresses, predicates, opcodes, operands and control codes.

Since Volta every instruction is 128 bits and carries its own schedule in the upper 64 (undocumented by NVIDIA; first
decoded by Jia et al., "Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking", 2018, section 2.1)::

    bits 41..44  stall    cycles before the warp may issue its next instruction
    bits 46..48  write barrier: scoreboard (0..5) released when the result has arrived; 7 for none
    bits 49..51  read barrier: scoreboard released when the source operands were read; 7 for none
    bits 52..57  wait mask: scoreboards that must be clear before the instruction issues
"""

from __future__ import annotations

import dataclasses
import re

NO_BARRIER = 7
_TARGET = re.compile(r"\.target\s+sm_(\d+)|EF_CUDA_SM(\d+)")
_SECTION = re.compile(r"\s*\.section\s+\.text\.([^,\s]+)")
_LABEL = re.compile(r"^(\.L_[\w.$]+|\$[\w.$]+|[\w$.]+):\s*$")
_INSTRUCTION = re.compile(
    r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:\{\s*)?(@!?U?P[0-9T]+\s+)?([A-Z][A-Za-z0-9_.]*)\s*(.*?)\s*;"
    r"(?:\s*\})?\s*/\* 0x[0-9a-f]+ \*/"
)
_UPPER_HALF = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One SASS instruction.

    Attributes:
        address: Byte offset in the kernel.
        predicate: ``"@P0"``, ``"@!UP1"``, or empty.
        opcode: With its modifiers, ``"LDG.E.128"``.
        operands: Text behind the opcode.
        control: Upper 64 bits of the encoding.
    """

    address: int
    predicate: str
    opcode: str
    operands: str
    control: int = 0

    @property
    def base(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def stall(self) -> int:
        """Cycles until the warp may issue again."""
        return (self.control >> 41) & 0xF

    @property
    def write_barrier(self) -> int:
        """Scoreboard released when the result has arrived, or ``NO_BARRIER``."""
        return (self.control >> 46) & 0x7

    @property
    def read_barrier(self) -> int:
        """Scoreboard released when the operands were read, or ``NO_BARRIER``."""
        return (self.control >> 49) & 0x7

    @property
    def wait_mask(self) -> int:
        """One bit for each scoreboard that must be clear before the issue."""
        return (self.control >> 52) & 0x3F

    @property
    def is_conditional(self) -> bool:
        """Whether a predicate can switch it off."""
        return bool(self.predicate) and self.predicate not in ("@PT", "@UPT")


@dataclasses.dataclass(frozen=True)
class Function:
    """One kernel: its instructions in order, and the addresses of its labels."""

    name: str
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Program:
    """All kernels of a cubin, and the compute capability (times ten) they are compiled for."""

    capability: int
    functions: dict[str, Function]


@dataclasses.dataclass
class _Draft:
    """A kernel while its lines come in."""

    instructions: list[Instruction] = dataclasses.field(default_factory=list)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    unplaced: list[str] = dataclasses.field(default_factory=list)


def parse_sass(text: str) -> Program:
    """Return the kernels in the text of ``nvdisasm -c -hex``.

    Raises:
        ValueError: The text names no target or holds no instruction.
    """
    capability, drafts, current = None, {}, None
    for line in text.splitlines():
        if match := _TARGET.search(line):
            capability = int(match[1] or match[2])
        if match := _SECTION.match(line):
            current = drafts.setdefault(match[1], _Draft())
        elif current is not None:
            _read_line(current, line)
    functions = {
        name: Function(name, tuple(draft.instructions), draft.labels)
        for name, draft in drafts.items()
        if draft.instructions
    }
    if capability is None or not functions:
        raise ValueError("parse_sass: text names no sm_ target or holds no instruction; it takes `nvdisasm -c -hex`.")
    return Program(capability, functions)


def _read_line(draft: _Draft, line: str) -> None:
    if match := _LABEL.match(line.strip()):
        draft.unplaced.append(match[1])
    elif match := _INSTRUCTION.match(line):
        instruction = Instruction(int(match[1], 16), (match[2] or "").strip(), match[3], match[4])
        draft.labels |= dict.fromkeys(draft.unplaced, instruction.address)
        draft.unplaced = []
        draft.instructions.append(instruction)
    elif (match := _UPPER_HALF.match(line)) and draft.instructions:
        draft.instructions[-1] = dataclasses.replace(draft.instructions[-1], control=int(match[1], 16))
