"""The mutation report: counts by means and kind, what caught what, and every mutant that nothing caught."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

from lisa_kernels.testing.mutation import KINDS
from tests.mutation.trial import Outcome

# Of the mutants that change what a kernel does.
NEEDED = 0.95
NEEDED_KINDS = ("barrier", "wait", "mask")


def shares(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """Return (caught, changes behaviour) by kind; a mutant that is known to be harmless changes nothing."""
    counts = {}
    for kind in KINDS:
        rows = [row for row in outcomes if row.kind == kind and (row.caught or not row.harmless)]
        counts[kind] = (sum(bool(row.caught) for row in rows), len(rows))
    return counts


def is_enough(outcomes: Sequence[Outcome]) -> bool:
    """Whether enough of the barrier, wait and mask mutants were caught."""
    caught, all_ = (sum(pair) for pair in zip(*(shares(outcomes)[kind] for kind in NEEDED_KINDS), strict=True))
    return caught >= NEEDED * all_


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of the report, in Markdown."""
    yield from ("# Mutation report", "")
    yield from ("| means | kernel | mutants | caught | harmless | not caught |", "|---|---|---|---|---|---|")
    groups = collections.defaultdict(list)
    for row in outcomes:
        groups[row.means, row.kernel].append(row)
    for (means, kernel), rows in groups.items():
        yield f"| {means} | {kernel} | " + " | ".join(map(str, _counts(rows))) + " |"
    yield "| all | | " + " | ".join(map(str, _counts(outcomes))) + " |"

    yield from ("", "| kind | caught | of those that change something |", "|---|---|---|")
    for kind, (caught, changing) in shares(outcomes).items():
        yield f"| {kind} | {caught} | {changing} |"

    yield from ("", "| caught by | " + " | ".join(KINDS) + " |", "|---|" + "---|" * len(KINDS))
    by = collections.Counter((row.caught, row.kind) for row in outcomes if row.caught)
    for caught in sorted({caught for caught, _ in by}):
        yield f"| {caught} | " + " | ".join(str(by[caught, kind] or "") for kind in KINDS) + " |"

    silent = [row for row in outcomes if not row.caught]
    if silent:
        yield from ("", "Not caught:", "")
    for row in silent:
        reason = row.harmless or "**no reason known: a hole in the checks**"
        yield f"- {row.means}, {row.kernel}, line {row.line}, {row.kind}: {row.change}. {reason}"


def _counts(rows: Sequence[Outcome]) -> tuple[int, int, int, int]:
    caught = sum(bool(row.caught) for row in rows)
    harmless = sum(not row.caught and bool(row.harmless) for row in rows)
    return len(rows), caught, harmless, len(rows) - caught - harmless
