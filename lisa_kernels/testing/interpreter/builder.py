"""The stock builder of Triton's interpreter with its wrong answers put right and its gaps refused.

Every method here overrides one of ``InterpreterBuilder``, or refuses an operation that it lacks.  What the stock one
computes right (loads, stores, integers, fp32 and fp64 arithmetic, layout operations) is inherited.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock
from triton.runtime.interpreter import TensorHandle

from lisa_kernels.testing.interpreter import dot
from lisa_kernels.testing.interpreter.atomics import half_atomic
from lisa_kernels.testing.interpreter.errors import DeviceAssertError, refuse
from lisa_kernels.testing.interpreter.formats import (
    decode,
    encode,
    held_as_bits,
    numpy_dtype,
    odd_sum,
    poison,
    to_integer,
)
from lisa_kernels.testing.interpreter.location import kernel_line, lanes_in_words

_COMPARISONS = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal}
_NO_ADVICE = "Check this kernel by running its compiled code."
# Builder methods that the stock builder lacks, by the language feature that asks for them.
_FEATURES = {"new_block": "tl.map_elementwise", "create_descriptor_reduce": "an atomic on a tensor descriptor"}


class HonestBuilder(stock.InterpreterBuilder):
    """Computes one program at a time as a GPU would, or raises ``NotInterpretedError``.

    Attributes:
        program_order: Seed of the permutation in which programs run, -1 for the reverse order, None for the plain one.
        kernel: Name of the kernel that was launched last.
    """

    def __init__(self, *, program_order: int | None = None) -> None:
        super().__init__()
        # ``debug`` lets tl.device_assert through.  It would also assert that no integer operation wraps around: those
        # of hashes and random numbers are meant to, and those of lanes that are masked off do not matter.
        self.options = stock.InterpreterOptions(
            debug=True, sanitize_overflow=False, allowed_dot_input_precisions=dot.PRECISIONS
        )
        self.program_order = program_order
        self.kernel = ""
        self._permutation: list[int] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return functools.partial(_refuse_call, _FEATURES.get(name, f"the operation {name}"))

    # Launches: called by HonestGridExecutor.

    def begin_launch(self, kernel: str, arguments: Mapping[str, Any]) -> None:
        """Called before a kernel's first program, with the launch's arguments by parameter name."""
        self.kernel = kernel

    def end_launch(self) -> None:
        """Called after a kernel's last program, or after the one that raised."""

    def set_grid_dim(self, nx: int, ny: int, nz: int) -> None:
        super().set_grid_dim(nx, ny, nz)
        self._permutation = None
        if self.program_order is not None:
            self._permutation = list(range(nx * ny * nz))[::-1]
            if self.program_order >= 0:
                random.Random(self.program_order).shuffle(self._permutation)

    def set_grid_idx(self, x: int, y: int, z: int) -> None:
        if self._permutation is not None:
            _, ny, nz = self.grid_dim
            x, rest = divmod(self._permutation[(x * ny + y) * nz + z], ny * nz)
            y, z = divmod(rest, nz)
        super().set_grid_idx(x, y, z)

    # Casts.

    def get_bf16(self, value: float) -> TensorHandle:
        return TensorHandle(encode(np.array([value], dtype=np.float64), tl.bfloat16), tl.bfloat16)

    def cast_impl(self, src: TensorHandle, dst_type: tl.dtype) -> TensorHandle:
        return _cast(src, dst_type.scalar, toward_zero=False)

    def create_fp_to_fp(self, src: TensorHandle, dst_type: tl.dtype, rounding_mode: Any) -> TensorHandle:
        return _cast(src, dst_type.scalar, toward_zero=rounding_mode == stock._ir.ROUNDING_MODE.RTZ)

    # Arithmetic: bf16 is computed in fp32 and rounded once.  For +, -, *, / and sqrt that equals one rounding, because
    # fp32 has more than twice the bits of bf16, and two (Figueroa, SIGNUM 1995).

    def binary_op(self, lhs: TensorHandle, rhs: TensorHandle, op: Any) -> TensorHandle:
        dtype = lhs.dtype.scalar
        if op in _COMPARISONS:
            # The stock result keeps the operands' dtype: a later cast would read its bools as bf16 bits.
            return TensorHandle(op(_values(lhs), _values(rhs)), tl.int1)
        if held_as_bits(dtype):
            return TensorHandle(encode(op(_values(lhs), _values(rhs)), dtype), dtype)
        return super().binary_op(lhs, rhs, op)

    def unary_op(self, arg: TensorHandle, op: Any) -> TensorHandle:
        dtype = arg.dtype.scalar
        if held_as_bits(dtype):
            return TensorHandle(encode(op(_values(arg)), dtype), dtype)
        return super().unary_op(arg, op)

    def create_fneg(self, arg: TensorHandle) -> TensorHandle:
        return self.unary_op(arg, np.negative)

    def create_minnumf(self, lhs: TensorHandle, rhs: TensorHandle) -> TensorHandle:
        return self.binary_op(lhs, rhs, np.fmin)

    def create_maxnumf(self, lhs: TensorHandle, rhs: TensorHandle) -> TensorHandle:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_clampf(self, arg: TensorHandle, lo: TensorHandle, hi: TensorHandle, propagate_nans: Any) -> TensorHandle:
        ignore = propagate_nans == stock._ir.PROPAGATE_NAN.NONE
        low, high = (np.fmax, np.fmin) if ignore else (np.maximum, np.minimum)
        return self.binary_op(self.binary_op(arg, lo, low), hi, high)

    def create_fma(self, x: TensorHandle, y: TensorHandle, z: TensorHandle) -> TensorHandle:
        dtype = z.dtype.scalar
        if dtype.is_fp64():
            return super().create_fma(x, y, z)
        # Two factors of up to 24 bits: their product is exact in fp64.
        wide = [_values(handle).astype(np.float64) for handle in (x, y, z)]
        return TensorHandle(encode(odd_sum(wide[0] * wide[1], wide[2]), dtype), dtype)

    # Products of tiles.

    def create_dot(
        self, a: TensorHandle, b: TensorHandle, d: TensorHandle, input_precision: Any, max_num_imprecise_acc: Any
    ) -> TensorHandle:
        dtype = d.dtype.scalar
        if not a.dtype.is_floating():
            # Exact in fp64, whose matmul is hundreds of times faster than numpy's for integers.
            exact = np.matmul(a.data.astype(np.float64), b.data.astype(np.float64)).astype(np.int64)
            return TensorHandle((exact + d.data).astype(d.data.dtype), dtype)
        left, right = decode(a.data, a.dtype.scalar), decode(b.data, b.dtype.scalar)
        if a.dtype.is_fp64():
            return TensorHandle(np.matmul(left, right) + d.data, dtype)
        precision = dot.check_precision(input_precision.name) if a.dtype.is_fp32() else "ieee"
        product = dot.multiply(left.astype(np.float32), right.astype(np.float32), precision)
        return TensorHandle(encode(product + d.data.astype(np.float32), dtype), dtype)

    def create_dot_scaled(
        self,
        lhs: TensorHandle,
        lhs_scale: TensorHandle | None,
        lhs_format: Any,
        rhs: TensorHandle,
        rhs_scale: TensorHandle | None,
        rhs_format: Any,
        fast_math: bool,
        lhs_k_pack: bool,
        rhs_k_pack: bool,
        acc: TensorHandle,
    ) -> TensorHandle:
        left = _scaled(lhs, lhs_scale, lhs_format, -1 if lhs_k_pack else -2, is_rhs=False)
        right = _scaled(rhs, rhs_scale, rhs_format, -2 if rhs_k_pack else -1, is_rhs=True)
        return TensorHandle((np.matmul(left, right) + acc.data).astype(np.float32), tl.float32)

    # Memory.

    def create_masked_load(
        self, ptrs: TensorHandle, mask: TensorHandle, other: TensorHandle | None, *options: Any, **named: Any
    ) -> TensorHandle:
        # Without ``other`` the lanes that are off are undefined (triton.language.load); the stock interpreter has 0
        # there, which makes a sum over them right by chance.
        if other is None and not mask.data.all():
            dtype = ptrs.get_element_ty()
            other = TensorHandle(np.full(ptrs.data.shape, poison(dtype), dtype=numpy_dtype(dtype)), dtype)
        return super().create_masked_load(ptrs, mask, other, *options, **named)

    def create_descriptor_load(self, desc: Any, indices: list[TensorHandle], *cache: Any) -> TensorHandle:
        dtype = desc.base.dtype.element_ty
        if desc.padding != stock._ir.PADDING_OPTION.PAD_NAN or not held_as_bits(dtype):
            return super().create_descriptor_load(desc, indices, *cache)
        pointers, mask = desc.materialize_pointers(indices)
        nan = encode(np.full(pointers.data.shape, np.nan, dtype=np.float32), dtype)
        return self.create_masked_load(pointers, mask, TensorHandle(nan, dtype), *cache, False)

    def create_atomic_rmw(
        self, rmw_op: Any, ptr: TensorHandle, val: TensorHandle, mask: TensorHandle, *order: Any
    ) -> TensorHandle:
        dtype = val.dtype.scalar
        if dtype.is_fp16() or dtype.is_bf16():
            return TensorHandle(half_atomic(rmw_op.name, ptr.data, val.data, mask.data, dtype), dtype)
        return super().create_atomic_rmw(rmw_op, ptr, val, mask, *order)

    def create_atomic_poll(
        self, ptr: TensorHandle, expected: TensorHandle, timeout_ns: Any, *order: Any
    ) -> TensorHandle:
        mask = TensorHandle(np.ones(ptr.data.shape, dtype=bool), tl.int1)
        matched = self.create_atomic_load(ptr, mask, *order).data == expected.data
        # Without a timeout Triton hands over an empty ir.value.
        if not isinstance(timeout_ns, TensorHandle) and not matched.all():
            refuse(
                "waiting for a flag that a later program sets",
                "Programs run one after another here: launch them so that earlier ones set what later ones wait for.",
            )
        return TensorHandle(matched, tl.int1)

    # Assertions.

    def create_assert(self, condition: TensorHandle, message: str) -> None:
        if not condition.data.all():
            failed = lanes_in_words(condition.data == 0)
            where = f"program {self.grid_idx} of {self.kernel}, {kernel_line()}"
            raise DeviceAssertError(f"tl.device_assert: {message!r} fails{f' in {failed}' if failed else ''}: {where}")

    # What has no interpretation.

    def create_inline_asm(self, *args: Any) -> TensorHandle:
        refuse("tl.inline_asm_elementwise", _NO_ADVICE)

    def create_extern_elementwise(self, *args: Any) -> TensorHandle:
        refuse("an external device function", "Call it through triton.language.extra.libdevice.")


def _refuse_call(what: str, *args: Any, **kwargs: Any) -> None:
    refuse(what, _NO_ADVICE)


def _values(handle: TensorHandle) -> np.ndarray:
    dtype = handle.dtype.scalar
    if dtype.is_fp8():
        refuse(f"arithmetic on {dtype.name}", "No GPU has it either: cast to float32 first.")
    return decode(handle.data, dtype)


def _cast(src: TensorHandle, dtype: tl.dtype, *, toward_zero: bool) -> TensorHandle:
    source, target = src.dtype.scalar, numpy_dtype(dtype)
    values = decode(src.data, source)
    if dtype.is_floating():
        if values.dtype.kind != "f" and held_as_bits(dtype):
            values = values.astype(np.float32)
        return TensorHandle(encode(values, dtype, toward_zero=toward_zero), dtype)
    if values.dtype.kind == "f":
        return TensorHandle(to_integer(values, target), dtype)
    return TensorHandle(values.astype(target), dtype)


def _scaled(
    handle: TensorHandle, scale: TensorHandle | None, element: Any, packed_axis: int, *, is_rhs: bool
) -> np.ndarray:
    if element == stock._ir.ScaleDotElemTypeTY.E2M1:
        values = dot.e2m1_values(handle.data, packed_axis)
    else:
        values = decode(handle.data, handle.dtype.scalar).astype(np.float32)
    factors = None
    if scale is not None:
        factors = decode(scale.data, scale.dtype) if scale.dtype.is_fp8() else dot.e8m0_values(scale.data)
    return dot.scaled_operand(values, factors, is_rhs=is_rhs)
