"""Products of tiles, with the operand roundings that Triton compiles for NVIDIA GPUs.

Read off the compiled code of Triton 3.9 for sm_80 and sm_90: ``tf32`` hands fp32 operands as they are to the tensor
cores, which ignore the 13 low bits; ``tf32x3``, ``bf16x3`` and ``bf16x6`` are several products of rounded parts.  Sums
are fp32 throughout.  Not emulated: fp16 accumulators, which are rounded once here, and the shorter fp8 accumulation of
sm_90 (``max_num_imprecise_acc``); AMD GPUs other than gfx942 compute ``tf32`` as fp32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import triton.language as tl

from lisa_kernels.testing.interpreter.errors import refuse
from lisa_kernels.testing.interpreter.formats import decode, encode

PRECISIONS = ("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6")

# Which parts of the operands are multiplied, smallest products first (Henry, Tang, Heinecke, arXiv 1904.06376).
_PRODUCTS = {
    "tf32x3": ((1, 0), (0, 1), (0, 0)),
    "bf16x3": ((1, 0), (0, 1), (0, 0)),
    "bf16x6": ((1, 1), (2, 0), (0, 2), (1, 0), (0, 1), (0, 0)),
}


def multiply(left: np.ndarray, right: np.ndarray, precision: str) -> np.ndarray:
    """Return the fp32 product of two fp32 arrays ``[..., M, K]`` and ``[..., K, N]`` with rounded operands.

    Args:
        precision: One of ``PRECISIONS``.
    """
    if precision == "ieee":
        return np.matmul(left, right)
    if precision == "tf32":
        return np.matmul(_tf32_cut(left), _tf32_cut(right))
    parts = 3 if precision == "bf16x6" else 2
    split = _split_tf32 if precision == "tf32x3" else _split_bf16
    lefts, rights = list(split(left, parts)), list(split(right, parts))
    *small, largest = _PRODUCTS[precision]
    total = sum(np.matmul(lefts[i], rights[j]) for i, j in small)
    # inf - inf in the small parts must not spoil an infinite result; the compiled code does the same.
    return np.where(np.isnan(total), np.float32(0), total) + np.matmul(lefts[largest[0]], rights[largest[1]])


def scaled_operand(values: np.ndarray, scale: np.ndarray | None, *, is_rhs: bool) -> np.ndarray:
    """Return an operand, ``[..., M, K]`` or right ``[..., K, N]``, times its scales, ``[..., M or N, K / block]``."""
    if scale is None:
        return values
    block = values.shape[-2 if is_rhs else -1] // scale.shape[-1]
    wide = np.repeat(scale, block, axis=-1)
    return values * (np.swapaxes(wide, -1, -2) if is_rhs else wide)


def e8m0_values(data: np.ndarray) -> np.ndarray:
    """Return 2**(code - 127), NaN for 255 (OCP Microscaling Formats 1.0, section 5.4.1)."""
    codes = data.view(np.uint8).astype(np.int32)
    return np.where(codes == 255, np.float32("nan"), np.ldexp(np.float32(1), codes - 127)).astype(np.float32)


def e2m1_values(data: np.ndarray, axis: int) -> np.ndarray:
    """Return the fp4 values of an array that packs two along ``axis``, the low half first."""
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
    packed = np.moveaxis(data.view(np.uint8), axis, -1)
    codes = np.stack([packed & 0x0F, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
    values = np.where(codes & 8, -magnitudes[codes & 7], magnitudes[codes & 7])
    return np.moveaxis(values, -1, axis)


def check_precision(name: str) -> str:
    """Return Triton's name of an input precision as one of ``PRECISIONS``, or refuse it."""
    precision = name.lower()
    if precision not in PRECISIONS:
        refuse(f"tl.dot with input_precision {name!r}", f"It takes {', '.join(PRECISIONS)}.")
    return precision


def _tf32_cut(values: np.ndarray) -> np.ndarray:
    bits = values.view(np.uint32)
    return np.where(np.isnan(values), values, (bits & np.uint32(0xFFFFE000)).view(np.float32))


def _tf32_round(values: np.ndarray) -> np.ndarray:
    """``cvt.rna.tf32``: to nearest, ties away from zero."""
    bits = values.view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(values), rounded, values)


def _split_tf32(values: np.ndarray, parts: int) -> Iterator[np.ndarray]:
    large = _tf32_round(values)
    yield large
    yield _tf32_cut(values - large)


def _split_bf16(values: np.ndarray, parts: int) -> Iterator[np.ndarray]:
    for _ in range(parts):
        part = decode(encode(values, tl.bfloat16), tl.bfloat16)
        yield part
        values = values - part
