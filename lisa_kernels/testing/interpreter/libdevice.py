"""``triton.language.extra.libdevice`` on numpy: its functions are stubs that return None under the interpreter.

Values are computed in fp64 and rounded once, so they are closer to the exact value than a GPU's; the ``fast_`` and
``_rn`` variants are computed like the plain ones.  As on a GPU, floating-point arguments are fp32 or fp64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter as stock
from triton.runtime.interpreter import TensorHandle

from lisa_kernels.testing.interpreter.errors import refuse
from lisa_kernels.testing.interpreter.formats import numpy_dtype


def _by_torch(function: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    def compute(*arrays: np.ndarray) -> np.ndarray:
        return function(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)).numpy()

    return compute


def _half_away(x: np.ndarray) -> np.ndarray:
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)


_remainder = np.vectorize(
    lambda x, y: math.remainder(x, y) if math.isfinite(x) and y and not math.isnan(y) else math.nan, otypes=[np.float64]
)
_SAME_NAME = (
    "tanh sinh cosh tan sin cos exp exp2 expm1 log log2 log10 log1p sqrt floor ceil trunc hypot copysign fmod cbrt"
)
_FLOAT = {name: getattr(np, name) for name in _SAME_NAME.split()} | {
    "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atan2": np.arctan2, "acosh": np.arccosh,
    "asinh": np.arcsinh, "atanh": np.arctanh, "pow": np.power, "abs": np.abs, "rint": np.rint,
    "nearbyint": np.rint, "round": _half_away, "remainder": _remainder, "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp10": lambda x: np.power(10.0, x), "fdim": lambda x, y: np.where(x > y, x - y, np.where(x <= y, 0, x + y)),
    "saturatef": lambda x: np.fmin(np.fmax(x, 0), 1), "erf": _by_torch(torch.erf),
    "erfc": _by_torch(torch.erfc), "erfinv": _by_torch(torch.erfinv), "lgamma": _by_torch(torch.lgamma),
    "normcdf": _by_torch(torch.special.ndtr), "j0": _by_torch(torch.special.bessel_j0),
    "fast_expf": np.exp, "fast_exp10f": lambda x: np.power(10.0, x), "fast_logf": np.log, "fast_log2f": np.log2,
    "fast_log10f": np.log10, "fast_sinf": np.sin, "fast_cosf": np.cos, "fast_tanf": np.tan, "fast_tanhf": np.tanh,
    "fast_powf": np.power, "fast_dividef": np.divide, "div_rn": np.divide, "mul_rn": np.multiply, "add_rn": np.add,
    "sub_rn": np.subtract, "rcp_rn": lambda x: 1 / x, "sqrt_rn": np.sqrt, "rsqrt_rn": lambda x: 1 / np.sqrt(x),
}  # fmt: skip
_TEST = {"isnan": np.isnan, "isinf": np.isinf, "finitef": np.isfinite, "isfinited": np.isfinite,
         "signbit": np.signbit}  # fmt: skip
_BITS = {
    "popc": lambda x, width: int(x).bit_count(),
    "clz": lambda x, width: width - int(x).bit_length(),
    "ffs": lambda x, width: (int(x) & -int(x)).bit_length(),
}


def is_stub(value: Any) -> bool:
    """Return whether this is one of the functions of libdevice, which return None under the interpreter."""
    return isinstance(value, FunctionType) and value.__module__ == libdevice.__name__


@functools.cache
def interpretations() -> Mapping[str, Callable[..., tl.tensor]]:
    """Return the interpretation, or the refusal, of every function of libdevice by name."""
    return {name: _interpretation(name) for name, value in vars(libdevice).items() if is_stub(value)}


def _interpretation(name: str) -> Callable[..., tl.tensor]:
    if name in _FLOAT:
        return functools.partial(_call_float, name, _FLOAT[name], None)
    if name in _TEST:
        return functools.partial(_call_float, name, _TEST[name], tl.int32)
    if name in _BITS:
        return functools.partial(_call_bits, _BITS[name])
    special = {"fma": _fma, "fma_rn": _fma, "nextafter": _nextafter, "ldexp": _ldexp}
    special |= {"float_as_int": _reinterpret(tl.int32), "int_as_float": _reinterpret(tl.float32)}
    return special.get(name) or functools.partial(_refuse_function, name)


def _call_float(name: str, compute: Callable, dtype: tl.dtype | None, *arguments: Any) -> tl.tensor:
    tensors = _tensors(arguments)
    if not all(tensor.dtype in (tl.float32, tl.float64) for tensor in tensors):
        given = ", ".join(tensor.dtype.name for tensor in tensors)
        refuse(f"libdevice.{name} of {given}", "A GPU has it for fp32 and fp64 only: cast first.")
    arrays = np.broadcast_arrays(*(tensor.handle.data.astype(np.float64) for tensor in tensors))
    return _tensor(compute(*arrays), dtype or tensors[0].dtype, tensors)


def _call_bits(compute: Callable, argument: Any) -> tl.tensor:
    (tensor,) = _tensors((argument,))
    data = tensor.handle.data.view(f"u{tensor.handle.data.itemsize}")
    return _tensor(np.vectorize(compute, otypes=[np.int32])(data, data.itemsize * 8), tl.int32, [tensor])


def _fma(*arguments: Any) -> tl.tensor:
    x, y, z = _tensors(arguments)
    return _tensor(stock.interpreter_builder.create_fma(x.handle, y.handle, z.handle).data, z.dtype, [x, y, z])


def _nextafter(*arguments: Any) -> tl.tensor:
    x, y = _tensors(arguments)
    return _tensor(np.nextafter(x.handle.data, y.handle.data), x.dtype, [x, y])


def _ldexp(*arguments: Any) -> tl.tensor:
    x, exponent = _tensors(arguments)
    return _tensor(np.ldexp(x.handle.data, exponent.handle.data), x.dtype, [x, exponent])


def _reinterpret(dtype: tl.dtype) -> Callable[..., tl.tensor]:
    def call(argument: Any) -> tl.tensor:
        (tensor,) = _tensors((argument,))
        return _tensor(tensor.handle.data.view(numpy_dtype(dtype)), dtype, [tensor])

    return call


def _refuse_function(name: str, *arguments: Any) -> tl.tensor:
    refuse(f"libdevice.{name}", "Write it with functions of triton.language, or check the compiled code.")


def _tensors(arguments: tuple[Any, ...]) -> list[tl.tensor]:
    return [stock.interpreter_semantic.to_tensor(argument) for argument in arguments]


def _tensor(values: np.ndarray, dtype: tl.dtype, operands: list[tl.tensor]) -> tl.tensor:
    data = np.asarray(values).astype(numpy_dtype(dtype))
    is_block = any(operand.type.is_block() for operand in operands)
    return tl.tensor(TensorHandle(data, dtype), tl.block_type(dtype, list(data.shape)) if is_block else dtype)
