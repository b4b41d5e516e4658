"""Watches host code: memory that PyTorch allocates without filling it holds nothing until something writes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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


class Allocations(TorchDispatchMode):
    """Tells about new unfilled tensors, and about tensors that PyTorch's own operators fill.

    Operators of other libraries are looked into: what they allocate for their kernels is what matters here.

    Args:
        on_empty: Called with a new tensor that holds nothing.
        on_filled: Called with a tensor that an operator of PyTorch returned or changed.
        paused: Returns whether to look away.
    """

    def __init__(
        self, on_empty: Callable[[Tensor], None], on_filled: Callable[[Tensor], None], paused: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._on_empty, self._on_filled, self._paused = on_empty, on_filled, paused

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace not in _TORCH_OWN and any(tensor.is_cpu for tensor in _tensors((args, kwargs))):
            # Past this mode's own key, with the mode on again for what the operator calls.
            with self:
                return func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), *args, **kwargs)
        result = func(*args, **kwargs)
        if self._paused():
            return result
        if func in _EMPTY:
            self._on_empty(result)
            return result
        written = [argument.name for argument in func._schema.arguments if argument.is_write]
        named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | dict(kwargs)
        changed = [named[name] for name in written if name in named]
        if changed or not any(item.alias_info for item in func._schema.returns):
            for tensor in _tensors((changed, result)):
                self._on_filled(tensor)
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
