"""Mutants of CUDA C++ source."""

from __future__ import annotations

import re
from collections.abc import Callable

from lisa_kernels.testing.mutation.mutant import Mutant

# (kind, what to find, what to put there)
_RULES: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    ("barrier", re.compile(r"__sync(threads|warp)\([^;]*\);"), lambda found: ";"),
    (
        "wait",
        re.compile(r"__pipeline_wait_prior\((\d+)\)"),
        lambda found: f"__pipeline_wait_prior({int(found[1]) + 1})",
    ),
    # Spaces around it: a comparison, not a template's bracket.
    ("mask", re.compile(r"(?<=[\w)\]]) < (?=[\w(])"), lambda found: " <= "),
    ("index", re.compile(r"\bthreadIdx\.x\b"), lambda found: "(threadIdx.x + 1)"),
    (
        "store",
        re.compile(r"(?<=[\s)])(?P<place>[\w.]+(\[[^=;\n]*\])+) = (?P<value>[^;=]+);"),
        lambda found: f"{{ {found[0]} (&{found['place']})[1] = {found['value']}; }}",
    ),
)


def cuda_mutants(source: str) -> list[Mutant]:
    """Return every mutant of a ``.cu`` text.

    Barriers are deleted, waits and every ``<`` loosened, ``threadIdx.x`` shifted, stores to array elements repeated on
    the next element.
    """
    mutants = []
    for kind, pattern, replacement in _RULES:
        for found in pattern.finditer(source):
            after = replacement(found)
            text = source[: found.start()] + after + source[found.end() :]
            line = source.count("\n", 0, found.start()) + 1
            shown = source.splitlines()[line - 1].strip()
            mutants.append(Mutant(kind, line, shown, "" if after == ";" else " ".join(after.split()), text))
    return mutants
