"""Which backend runs a call: the first, in order of preference, that does not refuse.

A backend refuses with a sentence.  A missing compiler, a missing package, an odd dtype: each is a reason in a list,
never an ImportError, and ``explain`` shows the list.  ``reference`` never refuses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core import native
from lisa_kernels.core.config import BACKENDS, read_settings
from lisa_kernels.core.launch import is_redirected

# Process-wide on purpose: autograd runs a CUDA backward on its own threads, which see no contextvar.
_forced: str | None = read_settings().backend
_MODULES = {"cuda": "native_impl", "cpu": "native_impl", "triton": "triton_impl", "reference": "reference"}


@dataclasses.dataclass(frozen=True)
class Backend:
    """One way to run one op; its module is imported at first use."""

    op: str
    name: str
    # The op's folder as a dotted path, or None where the op has no such backend.
    package: str | None

    @functools.cached_property
    def module(self) -> ModuleType:
        return importlib.import_module(f"{self.package}.{_MODULES[self.name]}")

    def refuse(self, named: Mapping[str, Any]) -> str | None:
        """Return why this backend cannot run a call with these arguments, or None."""
        if self.package is None:
            return self.unavailable("")
        device = next(value.device.type for value in named.values() if isinstance(value, Tensor))
        return self.unavailable(device) or self._own_reason(named)

    def unavailable(self, device: str) -> str | None:
        """Return why this backend cannot run on this machine and device type, or None."""
        if self.package is None:
            return f"{self.op} has no {self.name} kernels"
        return _GENERAL[self.name](device)

    def _own_reason(self, named: Mapping[str, Any]) -> str | None:
        own = getattr(self.module, "refuse", None)
        return own(named) if own else None


@dataclasses.dataclass(frozen=True)
class Explanation:
    """``(backend, verdict)`` rows in order of preference; printing it gives a table.

    Attributes:
        without_kernels: Backends that the op has no code for, on any machine.
    """

    op: str
    rows: tuple[tuple[str, str], ...]
    without_kernels: tuple[str, ...] = ()

    @property
    def chosen(self) -> str | None:
        """The backend that runs the call, or None where all refuse."""
        return next((name for name, verdict in self.rows if verdict == "runs"), None)

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows)
        return "\n".join([f"{self.op}:", *(f"  {name:{width}}  {verdict}" for name, verdict in self.rows)])


@contextlib.contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Force one backend for every op of the process while the block runs; None lifts a forced one.

    Args:
        name: ``"cuda"``, ``"triton"``, ``"cpu"``, ``"reference"`` or None.

    Raises:
        ValueError: The name is none of these.
    """
    global _forced
    if name is not None and name not in BACKENDS:
        raise ValueError(f"use_backend: name is {name!r}; it takes {', '.join(map(repr, BACKENDS))} or None.")
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous


def choose(backends: tuple[Backend, ...], named: Mapping[str, Any]) -> Backend:
    """Return the backend that runs this call.

    Raises:
        RuntimeError: Every backend, or the forced one, refuses; the message holds all reasons.
    """
    op, reasons = backends[0].op, []
    for backend in backends:
        if _forced not in (None, backend.name):
            continue
        reason = backend.refuse(named)
        if reason is None:
            if backend.name == "reference" and _forced is None:
                _say_slow(op, "; ".join(reasons))
            return backend
        # That an op has no kernels of some kind is nothing its user can mend.
        if backend.package is not None or _forced is not None:
            reasons.append(f"{backend.name}: {reason}")
    known = ", ".join(backend.name for backend in backends)
    raise RuntimeError(f"{op}: no backend can run this call (forced: {_forced}; known: {known}). {'; '.join(reasons)}.")


def explain_call(backends: tuple[Backend, ...], named: Mapping[str, Any]) -> Explanation:
    """Return what ``choose`` would do with this call, and why."""
    rows, found = [], False
    for backend in backends:
        if _forced not in (None, backend.name):
            verdict = f"not asked: {_forced} is forced"
        elif (reason := backend.refuse(named)) is not None:
            verdict = f"refuses: {reason}"
        else:
            verdict = "not reached" if found else "runs"
            found = True
        rows.append((backend.name, verdict))
    return Explanation(backends[0].op, tuple(rows), tuple(b.name for b in backends if b.package is None))


@functools.cache
def _say_slow(op: str, reasons: str) -> None:
    """Warn once for each cause: slow must not be silent."""
    warnings.warn(f"{op} runs on the slow reference backend. {reasons}.", RuntimeWarning, stacklevel=2)


def _no_cuda(device: str) -> str | None:
    if native.is_redirected() and device == "cpu":
        return (
            None if _forced == "cuda" else "CUDA kernels on the host are never chosen, only forced: use_backend('cuda')"
        )
    if device != "cuda":
        return f"{device} tensors; it takes NVIDIA GPU tensors"
    if torch.version.hip:
        return "an AMD GPU; it takes NVIDIA GPU tensors"
    if not native.build_info().get("cuda"):
        return native.why_not() or "the native extension was built without CUDA"
    return None


def _no_triton(device: str) -> str | None:
    if not _has_triton():
        return "triton is not installed: pip install 'triton>=3.6,<3.10'"
    if device == "cpu" and not (read_settings().interpret or is_redirected()):
        return "CPU tensors run in Triton's interpreter or the PTX emulator only, for tests: set TRITON_INTERPRET=1"
    if device == "cpu" and _forced != "triton":
        return "interpreter and emulator are never chosen, only forced: use_backend('triton')"
    if device not in ("cpu", "cuda"):
        return f"{device} tensors; it takes GPU tensors"
    return None


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _no_cpu(device: str) -> str | None:
    if device != "cpu":
        return f"{device} tensors; it takes CPU tensors"
    return native.why_not()


_GENERAL: dict[str, Callable[[str], str | None]] = {
    "cuda": _no_cuda,
    "triton": _no_triton,
    "cpu": _no_cpu,
    "reference": lambda device: None,
}
