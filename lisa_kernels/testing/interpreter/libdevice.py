"""``triton.language.extra.libdevice`` on numpy: its functions are stubs that return None under the interpreter.

``triton.language.extra.cuda.libdevice`` and ``hip.libdevice`` hold the same functions for compiled code; they raise.
Values are computed in fp64 and rounded once, so they are closer to the exact value than a GPU's; the ``fast_`` and
``_rn`` variants are computed like the plain ones.  As on a GPU, floating-point arguments are fp32 or fp64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.language.extra.hip import libdevice as hip_libdevice
from triton.runtime import interpreter as stock
from triton.runtime.interpreter import TensorHandle

from lisa_kernels.testing.interpreter.errors import refuse
from lisa_kernels.testing.interpreter.formats import numpy_dtype
from lisa_kernels.testing.interpreter.libdevice_functions import BITS, FLOAT, TEST

# The stubs, and the functions of compiled code under the same names.
_MODULES = (libdevice, cuda_libdevice, hip_libdevice)


def is_stub(value: Any) -> bool:
    """Return whether this is one of the functions of libdevice, which are of no use under the interpreter."""
    return isinstance(value, FunctionType) and value.__module__ in {module.__name__ for module in _MODULES}


def stubs() -> Iterator[tuple[ModuleType, str]]:
    """Yield the module and the name of every function of libdevice, under all the names it can be had by."""
    for module in _MODULES:
        yield from ((module, name) for name, value in list(vars(module).items()) if is_stub(value))


@functools.cache
def interpretations() -> Mapping[str, Callable[..., tl.tensor]]:
    """Return the interpretation, or the refusal, of every function of libdevice by name."""
    return {name: _interpretation(name) for _, name in stubs()}


def _interpretation(name: str) -> Callable[..., tl.tensor]:
    if name in FLOAT:
        return functools.partial(_call_float, name, FLOAT[name], None)
    if name in TEST:
        return functools.partial(_call_float, name, TEST[name], tl.int32)
    if name in BITS:
        return functools.partial(_call_bits, BITS[name])
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
