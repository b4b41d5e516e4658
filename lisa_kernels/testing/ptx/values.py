"""PTX types as numpy arrays, and conversions between them that numpy lacks (PTX ISA, section "Types").

bf16, tf32 and the 8-bit floats have no numpy dtype: they travel as their bits and are decoded where they are computed
with.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

UNSIGNED = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}

# How a value of each type lies in a numpy array.
STORAGE = {
    name: np.dtype(code)
    for code, names in {
        "u1": "b8 u8 e4m3 e5m2",
        "i1": "s8",
        "u2": "b16 u16 bf16 e4m3x2 e5m2x2",
        "i2": "s16",
        "f2": "f16",
        "u4": "b32 u32 f16x2 bf16x2 tf32",
        "i4": "s32",
        "f4": "f32",
        "u8": "b64 u64 f32x2",
        "i8": "s64",
        "f8": "f64",
        "?": "pred",
    }.items()
    for name in names.split()
}
SCALAR_FLOATS = frozenset(("f16", "bf16", "f32", "f64"))
# Two values side by side in one register: element type and the shifts of its lanes.
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "f32x2": "f32"}

_SMALLEST_NORMAL = {"f16": 2.0**-14, "bf16": 2.0**-126, "f32": 2.0**-126, "f64": 2.0**-1022}
_TORCH_FLOAT8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def bits_of(values: np.ndarray) -> np.ndarray:
    """The same memory as unsigned integers."""
    return np.ascontiguousarray(values).view(UNSIGNED[values.dtype.itemsize])


def decode(bits: np.ndarray, type_name: str) -> np.ndarray:
    """Values of a storage array as floats numpy computes with: float64 for f64, else float32."""
    if type_name == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if type_name == "f16":
        return bits.view(np.float16).astype(np.float32)
    if type_name == "tf32":
        # The tensor core ignores the low 13 bits of a tf32 operand.
        return (bits & np.uint32(0xFFFFE000)).view(np.float32)
    if type_name in _TORCH_FLOAT8:
        return _float8_values(type_name)[bits]
    return bits.view(STORAGE[type_name])


@functools.cache
def _float8_values(type_name: str) -> np.ndarray:
    codes = torch.arange(256, dtype=torch.uint8)
    return codes.view(_TORCH_FLOAT8[type_name]).float().numpy()


def encode(values: np.ndarray, type_name: str, rounding: str = "rn") -> np.ndarray:
    """Round floats of numpy to a type, once, and return its storage.

    Args:
        rounding: ``rn`` to nearest even, ``rna`` to nearest, ties away, ``rz`` to zero, ``rm`` down, ``rp`` up.
    """
    if type_name in ("f16", "f32", "f64"):
        nearest = values.astype(STORAGE[type_name])
        return nearest if rounding == "rn" or nearest.dtype == values.dtype else _directed(values, nearest, rounding)
    if type_name == "bf16":
        return _to_upper_bits(values, 16, rounding)
    if type_name == "tf32":
        return _to_upper_bits(values, 13, rounding)
    raise KeyError(type_name)


def _directed(exact: np.ndarray, nearest: np.ndarray, rounding: str) -> np.ndarray:
    """Step back from the nearest value where it lies on the wrong side."""
    # long double holds every 64-bit integer.
    wide, exact = nearest.astype(np.longdouble), exact.astype(np.longdouble)
    lowest, highest = nearest.dtype.type(-np.inf), nearest.dtype.type(np.inf)
    too_high, too_low = wide > exact, wide < exact
    if rounding == "rz":
        too_high, too_low = too_high & (exact > 0), too_low & (exact < 0)
    elif rounding == "rm":
        too_low = np.zeros_like(too_low)
    else:
        too_high = np.zeros_like(too_high)
    down = np.where(too_high, np.nextafter(nearest, lowest), nearest)
    return np.where(too_low, np.nextafter(nearest, highest), down).astype(nearest.dtype)


def _to_upper_bits(values: np.ndarray, dropped: int, rounding: str) -> np.ndarray:
    """Keep the upper bits of a float32: bf16 drops 16, tf32 drops 13 (and keeps its place in 32 bits)."""
    single = values if values.dtype == np.float32 else round_to_odd(values)
    bits = np.ascontiguousarray(single).view(np.uint32).astype(np.uint64)
    unit = np.uint64(1 << dropped)
    half = np.uint64(1 << (dropped - 1))
    odd = (bits >> np.uint64(dropped)) & np.uint64(1)
    if rounding == "rn":
        bits = bits + (half - np.uint64(1)) + odd
    elif rounding == "rna":
        bits = bits + half
    elif rounding in ("rm", "rp"):
        away = np.signbit(single) if rounding == "rm" else ~np.signbit(single)
        inexact = (bits & (unit - np.uint64(1))) != 0
        bits = np.where(away & inexact & np.isfinite(single), bits + unit, bits)
    kept = bits & np.uint64(0xFFFFFFFF) & ~(unit - np.uint64(1))
    # cvt gives the canonical NaN of the type.
    kept = np.where(np.isnan(single), np.uint64(0x7FFF0000 if dropped == 16 else 0x7FFFFFFF), kept)
    if dropped == 16:
        return (kept >> np.uint64(16)).astype(np.uint16)
    return kept.astype(np.uint32)


def round_to_odd(values: np.ndarray) -> np.ndarray:
    """Wider floats to float32 such that a later rounding to fewer bits is as if done once (Boldo, Melquiond 2008)."""
    nearest = values.astype(np.float32)
    wide = nearest.astype(values.dtype)
    truncated = np.where(np.abs(wide) > np.abs(values), np.nextafter(nearest, np.float32(0)), nearest)
    bits = np.ascontiguousarray(truncated.astype(np.float32)).view(np.uint32)
    inexact = np.isfinite(values) & (truncated.astype(values.dtype) != values)
    return np.where(inexact, bits | np.uint32(1), bits).astype(np.uint32).view(np.float32)


def to_float8(values: np.ndarray, type_name: str) -> np.ndarray:
    """float32 to 8-bit floats with ``satfinite``: nearest even, values beyond the range become the largest."""
    largest = torch.finfo(_TORCH_FLOAT8[type_name]).max
    clipped = torch.from_numpy(np.clip(values, -largest, largest).astype(np.float32))
    return clipped.to(_TORCH_FLOAT8[type_name]).view(torch.uint8).numpy()


def flush_subnormals(values: np.ndarray, type_name: str) -> np.ndarray:
    """Subnormal numbers become zero and keep their sign (modifier ``.ftz``)."""
    return np.where(np.abs(values) < _SMALLEST_NORMAL[type_name], np.copysign(values.dtype.type(0), values), values)


def saturate(values: np.ndarray) -> np.ndarray:
    """Clamp to [0, 1]; NaN becomes +0 (modifier ``.sat``)."""
    return np.where(np.isnan(values), values.dtype.type(0), np.clip(values, 0, 1)).astype(values.dtype)


def resize(bits: np.ndarray, storage: np.dtype) -> np.ndarray:
    """Register contents as a storage dtype: truncated, or extended by zeros."""
    if bits.dtype == storage:
        return bits
    if bits.dtype.kind == "b" or storage.kind == "b":
        return bits.astype(storage)
    if bits.dtype.itemsize == storage.itemsize:
        return bits.view(storage)
    return bits.astype(UNSIGNED[storage.itemsize]).view(storage)
