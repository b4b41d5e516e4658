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
    ("mask", re.compile(r"(?<=if \()(?P<bound>[^()&|]*[^<&|])<(?![<=])"), lambda found: f"{found['bound']}<="),
    ("index", re.compile(r"\[threadIdx\.x\]"), lambda found: "[threadIdx.x + 1]"),
    ("index", re.compile(r"\bthreadIdx\.x (?=[/%])"), lambda found: "(threadIdx.x + 1) "),
)


def cuda_mutants(source: str) -> list[Mutant]:
    """Return every mutant of a ``.cu`` text: barriers deleted, waits and bounds loosened, thread indices shifted."""
    mutants = []
    for kind, pattern, replacement in _RULES:
        for found in pattern.finditer(source):
            after = replacement(found)
            text = source[: found.start()] + after + source[found.end() :]
            line = source.count("\n", 0, found.start()) + 1
            mutants.append(Mutant(kind, line, found[0], "" if after == ";" else after, text))
    return mutants
