"""What ``bench/ops/<op>.py`` is made of: peers, and how they say that they cannot run."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor

from lisa_kernels.core import registry
from lisa_kernels.core.spec import OpSpec


class UnavailableError(Exception):
    """A peer cannot run here; the text is the reason that its row shows."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A function of no arguments that returns a loss, and the tensors that get its gradient.

    Attributes:
        prepare: Makes what the layers of a model share in a step, such as a mask; None where there is nothing.
    """

    forward: Callable[[], Any]
    leaves: tuple[Tensor, ...]
    prepare: Callable[[], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Peer:
    """Somebody else's way to compute the same.

    Attributes:
        make: ``(keyword arguments of the public function) -> Candidate``, or raises ``UnavailableError``.
        slow_start: Its first call takes seconds (a compiler): left out by ``--quick``.
    """

    make: Callable[[dict[str, Any]], Candidate]
    slow_start: bool = False


def load(spec: OpSpec) -> ModuleType:
    """Return ``bench.ops.<folder of the op>``."""
    folder = next(name for name in registry.folders() if spec in registry.specs(name))
    return importlib.import_module(f"bench.ops.{folder}")


def preparation_of(spec: OpSpec, kwargs: dict[str, Any]) -> Callable[[], Any] | None:
    """Return what makes the arguments of a step that our layers share, or None: ``PREPARE`` of the op's module."""
    prepare = getattr(load(spec), "PREPARE", {}).get(spec.name)
    return functools.partial(prepare, kwargs) if prepare else None


def is_made_of_products(spec: OpSpec) -> bool:
    """Whether the op's work is matrix products, so that ``torch.mm`` is its limit: ``PRODUCTS`` of the op's module."""
    return spec.name in getattr(load(spec), "PRODUCTS", ())


def peers_of(spec: OpSpec) -> Mapping[str, Peer]:
    """Return the peers of an op by name."""
    return load(spec).PEERS[spec.name]
