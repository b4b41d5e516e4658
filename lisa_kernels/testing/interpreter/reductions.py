"""Reductions and scans of dtypes that numpy holds as bits, and in half precision.

The stock ones add, compare and accumulate the raw bits of bf16.  Half precision is summed pairwise and rounded after
each addition, as the compiled code does; on a GPU the pairs differ by layout, so last bits are not those of hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import triton.language as tl
from triton.language import standard
from triton.runtime import interpreter as stock

from lisa_kernels.testing.interpreter.errors import refuse
from lisa_kernels.testing.interpreter.formats import decode, encode, held_as_bits

_WITH_INDICES = (
    standard._argmin_combine_tie_break_left,
    standard._argmin_combine_tie_break_fast,
    standard._argmax_combine_tie_break_left,
    standard._argmax_combine_tie_break_fast,
)
# The same values; numpy's own complain about rows of nothing but NaN.
_QUIET = {np.nanmax: np.fmax.reduce, np.nanmin: np.fmin.reduce}
_SCANS = {standard._sum_combine: np.add, standard._prod_combine: np.multiply}


class HonestReduce(stock.ReduceOps):
    """``tl.reduce``; sums, extremes and their indices are vectorised, other functions run element by element."""

    def min_max(self, input: Any, val_reduce_op: Callable, idx_reduce_op: Callable | None = None) -> Any:
        tensor = input[0] if isinstance(input, tuple) else input
        val_reduce_op = _QUIET.get(val_reduce_op, val_reduce_op)
        values = decode(tensor.handle.data, tensor.dtype)
        if self.combine_fn in _WITH_INDICES and values.dtype.kind == "f" and np.isnan(values).any():
            refuse("the index of an extreme among NaN", "On a GPU it depends on the layout: replace NaN before.")
        if not held_as_bits(tensor.dtype):
            return super().min_max(tensor, val_reduce_op, idx_reduce_op)
        wide = super().min_max(self.to_tensor(values, tl.float32), val_reduce_op, idx_reduce_op)
        value = wide[0] if isinstance(wide, tuple) else wide
        narrow = self.to_tensor(encode(value.handle.data, tensor.dtype).reshape(value.shape), tensor.dtype)
        return (narrow, wide[1]) if isinstance(wide, tuple) else narrow

    def sum(self, input: Any) -> Any:
        if input.dtype.primitive_bitwidth >= 32 or not input.dtype.is_floating():
            return super().sum(input)
        data = input.handle.data
        axis = 0 if self.axis is None else self.axis
        parts = np.moveaxis(data.reshape(-1) if self.axis is None else data, axis, 0)
        while parts.shape[0] > 1:
            half = parts.shape[0] // 2
            wide = [decode(part, input.dtype).astype(np.float32) for part in (parts[:half], parts[half:])]
            parts = encode(wide[0] + wide[1], input.dtype)
        total = parts[0]
        if self.keep_dims:
            total = total.reshape([1] * data.ndim) if self.axis is None else np.expand_dims(total, axis)
        return self.to_tensor(total, input.dtype)

    def generic_reduce(self, input: Sequence[Any]) -> Any:
        self.combine_fn = _Checked(self.combine_fn, [tensor.dtype for tensor in input])
        return super().generic_reduce(input)


class HonestScan(stock.ScanOps):
    """``tl.associative_scan``; sums and products are vectorised, other functions run element by element."""

    def cumsum(self, input: Any) -> Any:
        return self._accumulate(input) if held_as_bits(input.dtype) else super().cumsum(input)

    def cumprod(self, input: Any) -> Any:
        return self._accumulate(input) if held_as_bits(input.dtype) else super().cumprod(input)

    def generic_scan(self, input: Sequence[Any]) -> Any:
        self.combine_fn = _Checked(self.combine_fn, [tensor.dtype for tensor in input])
        return super().generic_scan(input)

    def _accumulate(self, input: Any) -> list[Any]:
        step = _SCANS[self.combine_fn]
        terms = np.moveaxis(input.handle.data, self.axis, 0)
        sums = terms.copy()
        for i in range(1, len(terms)):
            sums[i] = encode(step(decode(sums[i - 1], input.dtype), decode(terms[i], input.dtype)), input.dtype)
        return [self.to_tensor(np.moveaxis(sums, 0, self.axis), input.dtype)]


class _Checked:
    """A combine function whose results must have the dtypes of its operands, as the compiler demands.

    The stock loop stores what comes back by value, whatever its dtype.
    """

    def __init__(self, combine: Any, dtypes: Sequence[tl.dtype]) -> None:
        self._combine = combine
        self._dtypes = dtypes

    def fn(self, *operands: Any) -> tuple[Any, ...]:
        results = self._combine.fn(*operands)
        results = results if isinstance(results, tuple) else (results,)
        results = tuple(stock.interpreter_semantic.to_tensor(result) for result in results)
        for result, dtype in zip(results, self._dtypes, strict=True):
            if result.dtype != dtype:
                name = getattr(self._combine, "__name__", "a function")
                refuse(
                    f"combining {dtype.name} into {result.dtype.name} by {name}",
                    "The compiler refuses it too: cast the result to the operand's dtype.",
                )
        return results
