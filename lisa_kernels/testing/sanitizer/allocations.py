"""Watches host code: memory that PyTorch allocates without filling it holds nothing until something writes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_EMPTY = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
    torch.ops.aten.empty_permuted.default,
}
_TORCH_OWN = ("aten", "prims", "prim")


class Watcher(Protocol):
    """What is told about tensors."""

    # Whether a kernel runs at the moment: what the interpreter does with tensors is its own business.
    launching: bool
    # How many launches there were.
    launches: int

    def on_empty(self, tensor: Tensor) -> None:
        """A new tensor holds nothing."""

    def on_filled(self, tensor: Tensor) -> None:
        """An operator returned or changed a tensor."""

    def on_returned(self, tensor: Tensor, operator: str) -> None:
        """An operator that launched kernels returned a tensor."""


class Allocations(TorchDispatchMode):
    """Tells about new unfilled tensors, and about tensors that operators fill.

    Operators of other libraries are looked into: what they allocate for their kernels is what matters here.  One that
    launches no Triton kernel fills its results unseen, in native code; of one that does they are looked at.
    """

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        foreign = func.namespace not in _TORCH_OWN and any(tensor.is_cpu for tensor in _tensors((args, kwargs)))
        launches = self._watcher.launches
        if foreign:
            # Past this mode's own key, with the mode on again for what the operator calls.
            with self:
                result = func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs)
        else:
            result = func(*args, **kwargs)
        if self._watcher.launching:
            return result
        if self._watcher.launches > launches:
            for tensor in _tensors(result):
                self._watcher.on_returned(tensor, str(func))
        elif func in _EMPTY:
            self._watcher.on_empty(result)
        else:
            for tensor in _filled(func._schema, args, kwargs, result):
                self._watcher.on_filled(tensor)
        return result


def _filled(schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Iterator[Tensor]:
    """The tensors that an operator changes, and those that it returns new; not views."""
    names = [argument.name for argument in schema.arguments]
    named = dict(zip(names, args, strict=False)) | dict(kwargs)
    for argument in schema.arguments:
        if argument.is_write and argument.name in named:
            yield from _tensors(named[argument.name])
    if not any(item.alias_info for item in schema.returns):
        yield from _tensors(result)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
