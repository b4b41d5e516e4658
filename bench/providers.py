"""Providers of one case: ours by backend, peers, and the machine's limit, all in one form."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bench.peers import Candidate, UnavailableError, is_made_of_products, peers_of, preparation_of
from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.testing.inputs import make_inputs, require_grad
from lisa_kernels.testing.subject import name_outputs

STEP = ("fwd", "bwd", "fwd+bwd")
# The last two are a layer's time of forward and backward with its share of what the layers have in common.
MODES = ("prepare", *STEP, "1 layer", "24 layers")

READ, COPY = "limit: read once", "limit: read + write once"
PRODUCTS = "limit: its operations by torch.mm"
LIMITS = (READ, COPY, PRODUCTS)
# A reference of full size: seven steps of it would take longer than all the others.
_LONGEST_STEP_S = 4
# Rows, columns and depth of that product: large enough for the best rate of a core.
_PRODUCT = (1024, 2048, 512)

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
        prepare: Makes what the layers of a model share; timed in modes of its own.
        factor: Of its times: operations of the case over those that it runs.
    """

    name: str
    modes: tuple[str, ...]
    forward: Callable[[], Any]
    backward: Callable[[Any], Any]
    backend: str = ""
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    prepare: Callable[[], Any] = lambda: None
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Absent:
    """A provider without figures: ``status`` in a word or two, ``reason`` in a sentence."""

    name: str
    status: str
    reason: str


def provider_names(spec: OpSpec, device: torch.device) -> tuple[str, ...]:
    """Return the names of all providers of an op: ours first, then the limits, then peers."""
    limits = LIMITS if is_made_of_products(spec) else (READ, COPY)
    return (*(f"lisa {backend}" for backend in BACKENDS[device.type]), *limits, *peers_of(spec))


def make_case_inputs(spec: OpSpec, case: Case, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return the keyword arguments of a case, differentiable tensors as leaves that require a gradient."""
    return require_grad(make_inputs(spec, case, dtype, device), spec.differentiable)


def build(
    spec: OpSpec, case: Case, kwargs: dict[str, Any], *, names: Sequence[str], quick: bool
) -> tuple[list[Provider], list[Absent]]:
    """Return the named providers that run on these inputs, and those that do not, each with its reason.

    Args:
        quick: Leave out peers whose first call takes seconds.
    """
    device = next(value.device for value in kwargs.values() if isinstance(value, Tensor))
    makers: dict[str, Callable[[], Provider]] = {
        f"lisa {backend}": functools.partial(_ours, spec, kwargs, backend) for backend in BACKENDS[device.type]
    }
    makers |= {
        READ: lambda: _read(*spec.traffic(kwargs)),
        COPY: lambda: _copy(spec, kwargs),
        PRODUCTS: lambda: _products(spec, case, kwargs),
    }
    makers |= {name: functools.partial(_peer, spec, kwargs, name, quick) for name in peers_of(spec)}
    peers = peers_of(spec)
    found, absent = [], []
    for name in names:
        try:
            provider = makers[name]()
            with provider.around():
                start = time.perf_counter()
                provider.backward(provider.forward())
                elapsed = time.perf_counter() - start
            if elapsed > _LONGEST_STEP_S and not (name in peers and peers[name].slow_start):
                absent.append(
                    Absent(name, "unavailable", f"a step takes {elapsed:.0f} s; up to {_LONGEST_STEP_S} s are timed")
                )
                continue
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
    prepare = preparation_of(spec, kwargs)
    candidate = Candidate(lambda: list(name_outputs(spec.function(**kwargs)).values())[-1], leaves, prepare)
    return _differentiated(f"lisa {backend}", candidate, backend)


def _peer(spec: OpSpec, kwargs: dict[str, Any], name: str, quick: bool) -> Provider:
    peer = peers_of(spec)[name]
    if quick and peer.slow_start:
        raise UnavailableError("left out by --quick: its first call takes seconds")
    return _differentiated(name, peer.make(kwargs), "")


def _differentiated(name: str, candidate: Candidate, backend: str) -> Provider:
    modes = STEP if candidate.leaves else ("fwd",)
    around = functools.partial(use_backend, backend) if backend else contextlib.nullcontext
    provider = Provider(
        name, modes, candidate.forward, functools.partial(_gradients, candidate.leaves), backend, around
    )
    if candidate.prepare is None:
        return provider
    every = ("prepare", *modes, "1 layer", "24 layers") if candidate.leaves else ("prepare", *modes)
    return dataclasses.replace(provider, modes=every, prepare=candidate.prepare)


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


def _products(spec: OpSpec, case: Case, kwargs: dict[str, Any]) -> Provider:
    like = next(value for value in kwargs.values() if isinstance(value, Tensor)).detach()
    rows, columns, depth = _PRODUCT
    a, b, c = (like.new_ones(shape) for shape in ((rows, depth), (depth, columns), (rows, columns)))
    factor = spec.flops(case) / (2 * rows * columns * depth)
    return Provider(PRODUCTS, ("fwd+bwd",), lambda: None, lambda result: torch.mm(a, b, out=c), factor=factor)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
