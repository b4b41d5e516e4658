"""Mutants that change nothing a caller can see, and why."""

from __future__ import annotations

from tests.mutation.trial import Outcome


def why_harmless(row: Outcome) -> str | None:
    """Return why a mutant computes the same, or None where no reason is known."""
    return None
