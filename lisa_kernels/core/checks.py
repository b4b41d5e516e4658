"""Argument checks: every message about bad input is worded here, once.

The form is ``<function>: <argument> <what came>; it takes <what is allowed>. <how to mend>``.  All functions look at
shapes, dtypes, devices and Python numbers, never at a tensor's values, so they run under ``torch.compile`` and never
wait for a GPU.  Values of CPU tensors are looked at inside the op (``check_range``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def check_tensor(function: str, name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: {name} is {_kind(value)}; it takes a torch.Tensor.")


def check_rank(function: str, name: str, tensor: Tensor, ranks: Sequence[int], meaning: str) -> None:
    """Raise ValueError unless the tensor has one of ``ranks`` dimensions; ``meaning`` spells the shapes."""
    if tensor.dim() not in ranks:
        raise ValueError(f"{function}: {name} has shape {tuple(tensor.shape)}; it takes {meaning}.")


def check_dtype(function: str, name: str, tensor: Tensor, allowed: Sequence[torch.dtype], mend: str = "") -> None:
    """Raise TypeError unless the tensor's dtype is one of ``allowed``."""
    if tensor.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        came = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(f"{function}: {name} is {came}; it takes {names}.{_sentence(mend)}")


def check_size(function: str, name: str, tensor: Tensor, dim: int, expected: int, meaning: str) -> None:
    """Raise ValueError unless ``tensor.shape[dim] == expected``; ``meaning`` says what that size is."""
    if tensor.shape[dim] != expected:
        raise ValueError(
            f"{function}: {name} has shape {tuple(tensor.shape)}; its size in dimension {dim} must be {expected}, "
            f"{meaning}."
        )


def check_device(function: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ValueError unless both tensors are on one device."""
    if tensor.device != other.device:
        raise ValueError(
            f"{function}: {name} is on {tensor.device} and {other_name} on {other.device}; it takes one device for "
            f"both. Move {name} with .to({str(other.device)!r})."
        )


def check_choice(function: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{function}: {name} is {value!r}; it takes {' or '.join(repr(a) for a in allowed)}.")


def check_flag(function: str, name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{function}: {name} is {_kind(value)}; it takes True or False.")


def check_integer(function: str, name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is a Python integer (bool is none)."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{function}: {name} is {_kind(value)}; it takes an integer.")


def check_value(function: str, name: str, value: Any, low: int, high: int, meaning: str) -> None:
    """Raise ValueError unless ``low <= value < high``."""
    if not low <= value < high:
        raise ValueError(f"{function}: {name} is {value}; it takes {low} to {high - 1}, {meaning}.")


def check_range(function: str, name: str, values: Tensor, low: int, high: int, meaning: str, mend: str = "") -> None:
    """Raise ValueError naming the first of ``values`` outside ``low..high``.  Reads values: CPU tensors only."""
    if values.numel() == 0:
        return
    smallest, largest = torch.aminmax(values)
    if low <= int(smallest) and int(largest) <= high:
        return
    outside = ((values < low) | (values > high)).nonzero()[0].tolist()
    position = ", ".join(map(str, outside))
    raise ValueError(
        f"{function}: {name}[{position}] is {int(values[tuple(outside)])}; it takes {low} to {high}, {meaning}."
        f"{_sentence(mend)}"
    )


def check_finite(function: str, name: str, values: Tensor, mend: str = "") -> None:
    """Raise ValueError naming the first of ``values`` that is inf or NaN.  Reads values: CPU tensors only."""
    if (finite := values.isfinite()).all():
        return
    outside = finite.logical_not().nonzero()[0].tolist()
    position = ", ".join(map(str, outside))
    raise ValueError(
        f"{function}: {name}[{position}] is {float(values[tuple(outside)])}; it takes finite numbers.{_sentence(mend)}"
    )


def check_number(function: str, name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is a Python number (bool is none), ValueError unless it is finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"{function}: {name} is {_kind(value)}; it takes a number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{function}: {name} is {value}; it takes a finite number.")


def _kind(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})" if isinstance(value, (str, int, float)) else type(value).__name__


def _sentence(text: str) -> str:
    return f" {text}" if text else ""
