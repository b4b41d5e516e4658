"""Number formats that numpy has not: bf16 and fp8, held as bits, and their roundings.

Casts equal PyTorch's bit for bit where PyTorch has the format and the value is in range.  Beyond the range of an fp8
format they saturate, infinities too, as ``cvt.rn.satfinite`` does (PTX ISA, cvt), which is what Triton emits; PyTorch
gives NaN or an infinity.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import _get_np_dtype as numpy_dtype

from lisa_kernels.testing.interpreter.errors import refuse

_FP8 = {
    "fp8e4nv": torch.float8_e4m3fn,
    "fp8e5": torch.float8_e5m2,
    "fp8e4b8": torch.float8_e4m3fnuz,
    "fp8e5b16": torch.float8_e5m2fnuz,
}


def held_as_bits(dtype: tl.dtype) -> bool:
    """Return whether numpy holds values of this scalar dtype as unsigned integers."""
    return dtype.is_bf16() or dtype.is_fp8()


def decode(data: np.ndarray, dtype: tl.dtype) -> np.ndarray:
    """Return the values of an array: fp32 for bf16 and fp8 (exact), the array itself for every other dtype."""
    if dtype.is_bf16():
        return (data.astype(np.uint32) << 16).view(np.float32)
    if dtype.is_fp8():
        return _fp8_values(_fp8_name(dtype))[data]
    return data


def encode(values: np.ndarray, dtype: tl.dtype, *, toward_zero: bool = False) -> np.ndarray:
    """Return floating-point ``values`` as the array that holds them in ``dtype``, rounded once.

    Args:
        values: fp16, fp32 or fp64.
        dtype: A floating-point scalar dtype of Triton.
        toward_zero: Round toward zero (Triton's ``"rtz"``) instead of to nearest, ties to even.
    """
    held = _nearest(values, dtype)
    if not toward_zero or held.dtype.itemsize >= values.dtype.itemsize:
        return held
    # Codes of one sign are ordered by magnitude: the next one toward zero is one less.
    bits = held.view(np.dtype(f"u{held.dtype.itemsize}"))
    grown = np.abs(decode(held, dtype).astype(np.float64)) > np.abs(values.astype(np.float64))
    bits = bits - grown.astype(bits.dtype)
    if dtype.name in ("fp8e4b8", "fp8e5b16"):
        # These formats have one zero; the code of the other is their NaN.
        bits = np.where(grown & (bits == 0x80), bits.dtype.type(0), bits)
    return bits.view(held.dtype)


def poison(dtype: tl.dtype) -> Any:
    """Return NaN, or the largest integer, as numpy holds it: what stands where a kernel must not look."""
    scalar = dtype.scalar
    if held_as_bits(scalar):
        return encode(np.array(np.nan, dtype=np.float32), scalar)
    held = numpy_dtype(scalar)
    if held.kind == "f":
        return held.type(np.nan)
    return True if held.kind == "b" else np.iinfo(held).max


def odd_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the fp64 sum, made odd where it is inexact: a second rounding to a narrower format then equals one.

    The error of the sum is that of Knuth's two-sum (Boldo and Melquiond, IEEE Trans. Computers 57, 2008).
    """
    total = np.asarray(a + b)
    rest = total - a
    error = (a - (total - rest)) + (b - rest)
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    inexact = even & (error != 0) & np.isfinite(error)
    return np.where(inexact, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)


def to_integer(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return floats truncated to integers; NaN gives 0 and the rest saturates, as ``cvt.rzi`` does (PTX ISA, cvt)."""
    if dtype == np.bool_:
        return values != 0
    limits = np.iinfo(dtype)
    # 2.0**63 is above the largest int64: it must not reach the cast, whose result would be the smallest.
    high = values.astype(np.float64) >= float(limits.max)
    low = values.astype(np.float64) <= float(limits.min)
    inside = np.where(high | low | np.isnan(values), 0, values).astype(dtype)
    return np.where(high, limits.max, np.where(low, limits.min, inside)).astype(dtype)


def _nearest(values: np.ndarray, dtype: tl.dtype) -> np.ndarray:
    if not held_as_bits(dtype):
        return values.astype(numpy_dtype(dtype))
    values = _odd_float32(values) if values.dtype == np.float64 else values.astype(np.float32)
    if dtype.is_bf16():
        bits = values.view(np.uint32)
        last = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = ((bits + np.uint32(0x7FFF) + last) >> np.uint32(16)).astype(np.uint16)
        return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
    kind = _FP8[_fp8_name(dtype)]
    largest = torch.finfo(kind).max
    # numpy's clip keeps NaN.
    inside = torch.from_numpy(np.ascontiguousarray(np.clip(values, -largest, largest)))
    return inside.to(kind).view(torch.uint8).numpy().reshape(values.shape)


def _odd_float32(values: np.ndarray) -> np.ndarray:
    """fp64 to fp32, inexact results made odd: a second rounding to a narrower format then equals one rounding."""
    nearest = values.astype(np.float32)
    bits = nearest.view(np.uint32)
    inexact = (nearest.astype(np.float64) != values) & np.isfinite(values)
    grown = np.abs(nearest.astype(np.float64)) > np.abs(values)
    return np.where(inexact, (bits - grown.astype(np.uint32)) | np.uint32(1), bits).view(np.float32)


def _fp8_name(dtype: tl.dtype) -> str:
    if dtype.name not in _FP8:
        refuse(f"the format {dtype.name}", f"It takes {', '.join(_FP8)}.")
    return dtype.name


@functools.cache
def _fp8_values(name: str) -> np.ndarray:
    return torch.arange(256, dtype=torch.uint8).view(_FP8[name]).float().numpy()
