"""What the interpreter refuses."""

from __future__ import annotations

from typing import NoReturn


class NotInterpretedError(RuntimeError):
    """A kernel uses what no interpreter here computes as a GPU does."""


def refuse(what: str, advice: str) -> NoReturn:
    """Raise ``NotInterpretedError``: ``what`` names the feature, ``advice`` says how to do without it."""
    raise NotInterpretedError(f"honest_interpreter: {what} is not interpreted. {advice}")
