"""Read-modify-write on fp16 and bf16; the stock interpreter lacks the latter."""

from __future__ import annotations

import ctypes

import numpy as np
import triton.language as tl

from lisa_kernels.testing.interpreter.errors import refuse
from lisa_kernels.testing.interpreter.formats import decode, encode


def half_atomic(
    operation: str, addresses: np.ndarray, values: np.ndarray, mask: np.ndarray, dtype: tl.dtype
) -> np.ndarray:
    """Add one lane after another, rounding after each, and return what stood there before.

    Args:
        operation: ``"FADD"``; Triton has no other on these dtypes.
        addresses: uint64, one a lane.
        values: As numpy holds ``dtype``; same shape.
        mask: Lanes that are on.
        dtype: ``tl.float16`` or ``tl.bfloat16``.
    """
    if operation != "FADD":
        refuse(f"the atomic {operation} on {dtype.name}", "It takes atomic_add.")
    before = np.zeros_like(values)
    for lane in np.ndindex(values.shape):
        if not mask[lane]:
            continue
        cell = ctypes.c_uint16.from_address(int(addresses[lane]))
        old = np.array([cell.value], dtype=np.uint16).view(values.dtype)
        before[lane] = old[0]
        total = decode(old, dtype).astype(np.float32) + decode(values[lane].reshape(1), dtype).astype(np.float32)
        cell.value = int(encode(total, dtype).view(np.uint16)[0])
    return before
