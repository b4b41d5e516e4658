"""What ``bench/ops/<op>.py`` is made of: peers, and how they say that they cannot run."""

from __future__ import annotations

import dataclasses
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
    """A function of no arguments that returns a loss, and the tensors that get its gradient."""

    forward: Callable[[], Any]
    leaves: tuple[Tensor, ...]


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


def peers_of(spec: OpSpec) -> Mapping[str, Peer]:
    """Return the peers of an op by name."""
    return load(spec).PEERS[spec.name]
