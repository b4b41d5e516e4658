"""Inputs for a case of a spec, and copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import Case, OpSpec, make_generator


def make_inputs(
    spec: OpSpec, case: Case, dtype: torch.dtype, device: torch.device | str = "cpu", *, seed: int = 0
) -> dict[str, Any]:
    """Return the keyword arguments of ``spec.function`` for a case; the same numbers on every device.

    Args:
        dtype: Of the differentiable arguments.
        seed: Another seed gives other numbers of the same kind.
    """
    kwargs = spec.inputs(case, dtype, torch.device(device), make_generator(case, seed))
    if dtype == torch.float64:
        # Random numbers made in fp32 would hide a step that goes through fp32.
        for name in spec.differentiable:
            one_of_each(kwargs[name]).mul_(1 + 1e-9)
    return kwargs


def clone_inputs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies that share no memory with ``kwargs``, with the same strides and without a graph."""
    return {name: _clone(value) if isinstance(value, Tensor) else value for name, value in kwargs.items()}


def require_grad(kwargs: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return ``kwargs`` with the named tensors as new leaves (same memory) that require a gradient."""
    wanted = set(names)
    return {name: value.detach().requires_grad_() if name in wanted else value for name, value in kwargs.items()}


def to_fp64(kwargs: Mapping[str, Any], dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Return the arguments as a reference takes them: floats as ``dtype``, lists and tuples of numbers as tensors."""
    device = next(value.device for value in kwargs.values() if isinstance(value, Tensor))

    def convert(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            value = torch.tensor(value, device=device)
        if isinstance(value, Tensor) and value.dtype.is_floating_point:
            return value.detach().to(dtype)
        return value

    return {name: convert(value) for name, value in kwargs.items()}


def _clone(tensor: Tensor) -> Tensor:
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    one_of_each(copy).copy_(one_of_each(tensor.detach()))
    return copy


def one_of_each(tensor: Tensor) -> Tensor:
    """Return the part of an expanded tensor that holds every element once: writing elements twice is an error."""
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
