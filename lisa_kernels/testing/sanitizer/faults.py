"""What the sanitizer finds, and how it says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

OUT_OF_BOUNDS = "out of bounds"
UNINITIALISED = "uninitialised read"
UNWRITTEN = "unwritten output"
POISON_LEFT = "poison left"
TWO_WRITERS = "two programs write"
READ_OF_WRITE = "read of another program's write"
WRITE_OF_READ = "write of what another program reads"
DUPLICATE_LANES = "duplicate lanes"
BAND_TOUCHED = "guard band touched"
ASSERTION = "assert"


@dataclasses.dataclass
class Fault:
    """One kind of fault at one line on one tensor: where it was seen first, and how often.

    Attributes:
        kind: One of this module's constants.
        tensor: The tensor's name; of the nearest one for an access outside all of them; empty for an assertion.
        where: Coordinates of the first element, or its distance from the tensor; what an assertion says.
        kernel: Name of the kernel; empty for a fault found after all launches.
        program: Its program ids; None for a fault found after all launches.
        other: The other program of a race.
        lanes: Which lanes of the access, in words.
        line: ``file:line`` of the kernel; empty where it is not known.
        elements: How many elements or lanes, in all programs.
        programs: How many programs.
    """

    kind: str
    tensor: str
    where: str
    kernel: str = ""
    program: tuple[int, int, int] | None = None
    other: tuple[int, int, int] | None = None
    lanes: str = ""
    line: str = ""
    elements: int = 1
    programs: int = 1

    def __str__(self) -> str:
        text = f"{self.kind}: {self.where}"
        if self.lanes:
            text += f", {self.lanes}"
        if self.program is not None:
            text += f", in program {self.program} of {self.kernel}"
        if self.other is not None:
            text += f" and program {self.other}"
        if self.programs > 1:
            text += f" and {self.programs - 1} more programs, {self.elements} elements in all"
        return f"{self.line}: {text}" if self.line else text


class SanitizerError(RuntimeError):
    """Kernels in a ``sanitize`` block touched memory as they must not.

    Attributes:
        faults: All that was found.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"sanitize: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n{lines}")


class FaultLog:
    """Collects faults; those of one kind, line and tensor are one."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str, str, str], Fault] = {}
        self._programs: dict[tuple[str, str, str, str], set[int]] = {}

    def add(self, fault: Fault, serial: int = 0) -> None:
        """Note a fault of the program with this serial number."""
        key = (fault.kind, fault.tensor, fault.line, fault.kernel)
        if key not in self._faults:
            self._faults[key] = fault
            self._programs[key] = {serial}
            return
        known = self._faults[key]
        known.elements += fault.elements
        self._programs[key].add(serial)
        known.programs = len(self._programs[key])

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults.values())
