"""Providers of one case: ours by backend, peers, and the machine's limit, all in one form."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bench.peers import Candidate, UnavailableError, peers_of
from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.testing.inputs import make_inputs, require_grad
from lisa_kernels.testing.subject import name_outputs

READ, COPY = "limit: read once", "limit: read + write once"
LIMITS = (READ, COPY)

# The op's interpreter (Triton on a CPU) is for tests: its times would mislead.
BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}


@dataclasses.dataclass(frozen=True)
class Provider:
    """Something to time.

    Attributes:
        name: As rows show it.
        modes: Modes that have a meaning for it.
        forward: Runs forward and returns the result.
        backward: Runs backward of that result and returns the gradients.
        backend: Our backend that it forces; empty for others.
        around: A context for both that is entered outside of the timing.
    """

    name: str
    modes: tuple[str, ...]
    forward: Callable[[], Any]
    backward: Callable[[Any], Any]
    backend: str = ""
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext


@dataclasses.dataclass(frozen=True)
class Absent:
    """A provider without figures: ``status`` in a word or two, ``reason`` in a sentence."""

    name: str
    status: str
    reason: str


def provider_names(spec: OpSpec, device: torch.device) -> tuple[str, ...]:
    """Return the names of all providers of an op: ours first, then the limits, then peers."""
    return (*(f"lisa {backend}" for backend in BACKENDS[device.type]), *LIMITS, *peers_of(spec))


def make_case_inputs(spec: OpSpec, case: Case, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return the keyword arguments of a case, differentiable tensors as leaves that require a gradient."""
    return require_grad(make_inputs(spec, case, dtype, device), spec.differentiable)


def build(
    spec: OpSpec, kwargs: dict[str, Any], *, names: Sequence[str], quick: bool
) -> tuple[list[Provider], list[Absent]]:
    """Return the named providers that run on these inputs, and those that do not, each with its reason.

    Args:
        quick: Leave out peers whose first call takes seconds.
    """
    device = next(value.device for value in kwargs.values() if isinstance(value, Tensor))
    makers: dict[str, Callable[[], Provider]] = {
        f"lisa {backend}": functools.partial(_ours, spec, kwargs, backend) for backend in BACKENDS[device.type]
    }
    makers |= {READ: lambda: _read(*spec.traffic(kwargs)), COPY: lambda: _copy(spec, kwargs)}
    makers |= {name: functools.partial(_peer, spec, kwargs, name, quick) for name in peers_of(spec)}
    found, absent = [], []
    for name in names:
        try:
            provider = makers[name]()
            with provider.around():
                provider.backward(provider.forward())
            found.append(provider)
        except (UnavailableError, NotImplementedError) as refusal:
            absent.append(Absent(name, "unavailable", _first_line(refusal)))
        except Exception as error:
            absent.append(Absent(name, "error", f"{type(error).__name__}: {_first_line(error)}"))
    return found, absent


def chosen_backend(spec: OpSpec, kwargs: dict[str, Any]) -> str | None:
    """Return the backend that dispatch takes for a call: the one that ratios refer to."""
    return spec.explain(**kwargs).chosen


def _ours(spec: OpSpec, kwargs: dict[str, Any], backend: str) -> Provider:
    with use_backend(backend):
        verdict = dict(spec.explain(**kwargs).rows)[backend]
    if verdict != "runs":
        raise UnavailableError(verdict.removeprefix("refuses: "))
    leaves = tuple(kwargs[name] for name in spec.differentiable)
    # Of several outputs the last is what peers are compared by.
    candidate = Candidate(lambda: list(name_outputs(spec.function(**kwargs)).values())[-1], leaves)
    return _differentiated(f"lisa {backend}", candidate, backend)


def _peer(spec: OpSpec, kwargs: dict[str, Any], name: str, quick: bool) -> Provider:
    peer = peers_of(spec)[name]
    if quick and peer.slow_start:
        raise UnavailableError("left out by --quick: its first call takes seconds")
    return _differentiated(name, peer.make(kwargs), "")


def _differentiated(name: str, candidate: Candidate, backend: str) -> Provider:
    modes = ("fwd", "bwd", "fwd+bwd") if candidate.leaves else ("fwd",)
    around = functools.partial(use_backend, backend) if backend else contextlib.nullcontext
    return Provider(name, modes, candidate.forward, functools.partial(_gradients, candidate.leaves), backend, around)


def _gradients(leaves: tuple[Tensor, ...], result: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result.sum() if result.dim() else result, leaves) if leaves else ()


def _read(read: Tensor, write: Tensor) -> Provider:
    # A maximum is one comparison an element: the memory sets the pace, not the adder.
    return Provider(READ, ("fwd",), read.detach().amax, lambda result: None)


def _copy(spec: OpSpec, kwargs: dict[str, Any]) -> Provider:
    if not spec.differentiable:
        raise UnavailableError("the op has no backward")
    read, write = spec.traffic(kwargs)
    source = read.detach()
    return Provider(COPY, ("bwd", "fwd+bwd"), lambda: None, lambda result: write.copy_(source))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
