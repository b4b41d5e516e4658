"""Finds the ops: every folder of ``lisa_kernels/ops`` with a ``spec.py``."""

from __future__ import annotations

import functools
import importlib
import pathlib
from typing import Any

from lisa_kernels.core.dispatch import Explanation
from lisa_kernels.core.spec import OpSpec

_OPS = pathlib.Path(__file__).resolve().parent.parent / "ops"


def folders() -> tuple[str, ...]:
    """Return the names of the op folders, sorted."""
    return tuple(sorted(path.parent.name for path in _OPS.glob("*/spec.py")))


@functools.cache
def specs(folder: str) -> tuple[OpSpec, ...]:
    """Return the specs of one op folder."""
    return importlib.import_module(f"lisa_kernels.ops.{folder}.spec").SPECS


def select(names: tuple[str, ...] | list[str] = ()) -> tuple[OpSpec, ...]:
    """Return the specs of the named folders or functions, all for no name.

    Raises:
        ValueError: A name that is neither.
    """
    every = [(folder, spec) for folder in folders() for spec in specs(folder)]
    known = sorted({folder for folder, _ in every} | {spec.name for _, spec in every})
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"select: op is {unknown[0]!r}; it takes {', '.join(known)}.")
    return tuple(spec for folder, spec in every if not names or folder in names or spec.name in names)


def explain(op: str, *args: Any, **options: Any) -> Explanation:
    """Return which backend runs ``lisa_kernels.<op>(*args, **options)``, and why not the others; ``print`` it.

    Args:
        op: Name of the public function, ``"ctc_loss"``.
        args: Positional arguments of that call; ``options`` its keyword arguments.

    Raises:
        ValueError: No op of that name.
    """
    matches = [spec for spec in select() if spec.name == op]
    if not matches:
        known = ", ".join(spec.name for spec in select())
        raise ValueError(f"explain: op is {op!r}; it takes {known}.")
    return matches[0].explain(*args, **options)
