"""Where a kernel goes wrong, in words: its line, found on the stack as kernels are Python here, and its lanes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

import numpy as np
import triton

# Frames of these folders stand between a kernel's line and the builder's method.
_NOT_KERNELS = (
    str(Path(triton.__file__).parent),
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "sanitizer"),
)


def lanes_in_words(chosen: np.ndarray) -> str:
    """Return ``3 of 8 lanes, first [5]`` for a mask of a block's shape; nothing for a scalar, which has one."""
    if chosen.size == 1:
        return ""
    where = np.argwhere(chosen)
    return f"{len(where)} of {chosen.size} lanes, first [{', '.join(map(str, where[0]))}]"


def kernel_line() -> str:
    """Return ``file:line`` of the innermost frame that belongs to a kernel, or nothing when none does."""
    return next(_kernel_lines(traceback.walk_stack(sys._getframe(1))), "")


def failed_line(raised: TracebackType | None) -> str:
    """Return ``file:line`` of the innermost frame of a traceback that belongs to a kernel, or nothing."""
    return next(_kernel_lines(reversed(list(traceback.walk_tb(raised)))), "")


def _kernel_lines(frames: Iterator[tuple[FrameType, int]]) -> Iterator[str]:
    for frame, line in frames:
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_KERNELS):
            yield f"{_short(file)}:{line}"


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
