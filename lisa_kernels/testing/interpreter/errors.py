"""What the interpreter refuses, and what a kernel itself says is wrong."""

from __future__ import annotations

from typing import NoReturn


class NotInterpretedError(RuntimeError):
    """A kernel uses what no interpreter here computes as a GPU does."""


class DeviceAssertError(AssertionError):
    """A ``tl.device_assert`` of a kernel failed; the text names its message, lanes, program, kernel and line."""


def refuse(what: str, advice: str) -> NoReturn:
    """Raise ``NotInterpretedError``: ``what`` names the feature, ``advice`` says how to do without it."""
    raise NotInterpretedError(f"honest_interpreter: {what} is not interpreted. {advice}")
