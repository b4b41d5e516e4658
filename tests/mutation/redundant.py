"""Barriers, waits and fences of PTX that others make superfluous: deleting one changes nothing.

Proved on the control flow of the text, without the emulator: on every way from or to the instruction, one that does the
same stands before anything that it would have to order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lisa_kernels.testing.mutation import Mutant

_LABEL = re.compile(r"^([\w$]+):")
_STATEMENT = re.compile(r"^\s*(?P<guard>@!?%\w+\s+)?(?P<opcode>[a-z][\w.:]*)(?P<operands>[^;]*);")
_ACCESS = re.compile(r"(ld|st|atom|red)\.(?!param)|cp\.async\.c[ag]|ldmatrix|stmatrix|wgmma\.mma_async")
_WRITE = re.compile(r"(st|atom|red)\.|cp\.async\.c[ag]|stmatrix|wgmma\.mma_async")
_SHARED_WRITE = re.compile(r"(st|atom|red)\.(\w+\.)*shared|stmatrix")

Statement = re.Match[str]


def why_redundant(text: str, mutant: Mutant) -> str:
    """Return why the instruction that a barrier or wait mutant changes is superfluous, or an empty text."""
    code = _Code(text)
    opcode = mutant.before.split()[0].rstrip(";")
    if mutant.kind == "wait":
        return code.why_wait_is_redundant(mutant.line - 1)
    if mutant.kind == "barrier" and opcode.startswith("fence.proxy.async"):
        if code.always(mutant.line - 1, _same(opcode), code.ends_shared_write, forward=False):
            return "No write to shared memory ends between it and the fence before it, on any way."
    elif mutant.kind == "barrier" and opcode.startswith(("bar.sync", "barrier.sync")):
        place, same = mutant.line - 1, _same(opcode)
        if code.always(place, same, lambda _, other: _ACCESS.match(other["opcode"]), forward=False):
            return "No access to memory lies between it and the barrier before it, on any way."
        if all(code.always(place, same, code.writes_or_ends_writing, forward=forward) for forward in (False, True)):
            return "Between the barriers before and after it nothing is written, on any way."
    return ""


class _Code:
    """PTX lines as a control-flow graph."""

    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        labels = {match[1]: i for i, line in enumerate(lines) if (match := _LABEL.match(line))}
        self.statements = [_STATEMENT.match(line) for line in lines]
        self.next: list[list[int]] = [[i + 1] if i + 1 < len(lines) else [] for i in range(len(lines))]
        for i, statement in enumerate(self.statements):
            branch = statement and statement["opcode"].split(".")[0]
            if branch in ("ret", "exit"):
                self.next[i] = self.next[i] if statement["guard"] else []
            elif branch == "bra":
                target = labels[statement["operands"].split()[-1]]
                self.next[i] = [*self.next[i], target] if statement["guard"] else [target]
        self.before: list[list[int]] = [[] for _ in lines]
        for i, following in enumerate(self.next):
            for place in following:
                self.before[place].append(i)

    def always(
        self,
        place: int,
        stops: Callable[[int, Statement], object],
        matters: Callable[[int, Statement], object],
        *,
        forward: bool,
    ) -> bool:
        """Whether every way from a place meets a statement that stops before one that matters.

        The kernel's beginning and end stop as well: beyond them nothing happens.
        """
        return not any(matters(here, statement) for here, statement in self._ways(place, stops, forward=forward))

    def why_wait_is_redundant(self, place: int) -> str:
        """Return why a ``wait_group`` waits for nothing that another one does not wait for, or an empty text."""
        statement = self.statements[place]
        opcode, groups = statement["opcode"], _groups(statement)
        commit = opcode.split("wait_group")[0] + "commit_group"

        def waits_as_long(_: int, other: Statement) -> bool:
            return not other["guard"] and other["opcode"] == opcode and _groups(other) <= groups

        if self.always(place, waits_as_long, lambda _, other: other["opcode"].startswith(commit), forward=False):
            return "The wait before it, on any way, leaves as few groups, and none is committed between."
        if self.always(place, waits_as_long, lambda _, other: _matters_to_copies(other), forward=True):
            return "On any way, the same wait follows or the kernel ends before anything looks at what was copied."
        return ""

    def ends_shared_write(self, place: int, statement: Statement) -> bool:
        """Whether a generic write to shared memory is made or becomes complete here."""
        return bool(_SHARED_WRITE.match(statement["opcode"])) or self._completes(place, statement)

    def writes_or_ends_writing(self, place: int, statement: Statement) -> bool:
        """Whether memory is written here, or an asynchronous write becomes complete."""
        return bool(_WRITE.match(statement["opcode"])) or self._completes(place, statement)

    def _completes(self, place: int, statement: Statement) -> bool:
        return statement["opcode"].startswith("cp.async.wait_group") and not self.why_wait_is_redundant(place)

    def _ways(
        self, place: int, stops: Callable[[int, Statement], object], *, forward: bool
    ) -> Iterator[tuple[int, Statement]]:
        """Yield every statement that is met on the ways from a place, up to those that stop."""
        neighbours = self.next if forward else self.before
        waiting, seen = list(neighbours[place]), {place}
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            statement = self.statements[here]
            if statement:
                if stops(here, statement):
                    continue
                yield here, statement
            waiting += neighbours[here]


def _same(opcode: str) -> Callable[[int, Statement], bool]:
    return lambda _, statement: not statement["guard"] and statement["opcode"] == opcode


def _groups(statement: Statement) -> int:
    return int(re.search(r"\d+", statement["operands"])[0])


def _matters_to_copies(statement: Statement) -> bool:
    opcode = statement["opcode"]
    return bool(_ACCESS.match(opcode)) or opcode.startswith(("bar.", "barrier.")) or "commit_group" in opcode
