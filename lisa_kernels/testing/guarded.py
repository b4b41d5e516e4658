"""Poisoned memory: reading outside an input, or not writing all of an output, changes the result."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.utils.deterministic
from torch import Tensor

from lisa_kernels.testing.inputs import one_of_each

# 64 elements: more than the widest vector of 16-bit lanes a kernel loads at once.
_MARGIN = 64


@dataclasses.dataclass(frozen=True)
class Guarded:
    """A copy of a tensor inside a larger storage that holds ``fill`` before, after and in between its elements.

    Attributes:
        name: The argument's name.
        tensor: The copy; same shape and strides as the original.
        storage: The whole memory, one-dimensional.
        before: What the storage held when it was made.
    """

    name: str
    tensor: Tensor
    storage: Tensor
    before: Tensor

    def untouched(self) -> bool:
        """Return whether the tensor and its margins hold what they held."""
        return torch.equal(self.storage.view(torch.uint8), self.before.view(torch.uint8))


def guard_inputs(kwargs: Mapping[str, Any], *, poison: bool) -> tuple[dict[str, Any], tuple[Guarded, ...]]:
    """Return ``kwargs`` with every tensor between margins, and the guards.

    Args:
        kwargs: Keyword arguments of an op.
        poison: Margins of NaN (integers: 3), else of 0.  Two calls in the same memory layout that differ only in this
            must give the same bits.
    """
    guards = tuple(_guard(name, value, poison) for name, value in kwargs.items() if isinstance(value, Tensor))
    return {**kwargs, **{guard.name: guard.tensor for guard in guards}}, guards


def _guard(name: str, tensor: Tensor, poison: bool) -> Guarded:
    # An integer that is out of range everywhere would end in an error message instead of a wrong result.
    fill = (float("nan") if tensor.dtype.is_floating_point else 3) if poison else 0
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    elements = extent if tensor.numel() else 0
    storage = torch.full((elements + 2 * _MARGIN,), fill, dtype=tensor.dtype, device=tensor.device)
    inside = storage.as_strided(tensor.shape, tensor.stride(), _MARGIN)
    one_of_each(inside).copy_(one_of_each(tensor.detach()))
    return Guarded(name, inside, storage, storage.clone())


@contextlib.contextmanager
def poisoned_allocations() -> Iterator[None]:
    """Fill every new uninitialised tensor with NaN (integers: the largest value) while the block runs."""
    settings = torch.utils.deterministic
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = True
    try:
        with warnings.catch_warnings():
            # Only the filling is wanted, not torch's advice on its own ops.
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = fills
