"""What a word holds after lanes of one warp stored to it by one instruction.

One of the lanes wins, unspecified which (PTX ISA, section "Memory Consistency Model"; CUDA C++ Programming Guide,
"SIMT Architecture").  So such a store is defined, and a fault only if it matters who wins.

It does not matter for copies of one number that differ in the last bits.  Triton lets all lanes of a warp store a
reduction to one word, and LLVM contracts a product into the first addition of its butterfly: lane i then holds
``fma(a_i, b_i, round(a_j * b_j))`` and lane j ``fma(a_j, b_j, round(a_i * b_i))``.  A store does not name the type of
what it stores: bits count as floats that are close if they are close in a float type of their size.
"""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx.values import UNSIGNED, decode

# By bytes of an element: float types, how far apart copies may be, in parts of the largest magnitude that the
# instruction stores (sums that cancel keep the error of their terms), and the least bits of a number.  Below are
# subnormal numbers, which is what small integers look like.
_FORMATS = {
    2: (("f16", 2.0**-8, 0x400), ("bf16", 2.0**-6, 0x400)),
    4: (("f32", 2.0**-15, 0x0080_0000),),
    8: (("f64", 2.0**-44, 0x0010_0000_0000_0000),),
}


def winners(rows: np.ndarray, warps: np.ndarray) -> np.ndarray | None:
    """Return, for each access, the last access of its warp to the same row; None if every row comes once.

    The last lane wins here.
    """
    order = np.lexsort((warps, rows))
    if (np.diff(rows[order]) != 0).all():
        return None
    keys = rows[order] * 64 + warps[order]
    # Sorting is stable: the last of equal keys is the last lane.
    ends = np.append(np.nonzero(np.diff(keys))[0], len(keys) - 1)
    won = np.empty_like(order)
    won[order] = order[ends[np.searchsorted(ends, np.arange(len(keys)))]]
    return won


def differing(data: np.ndarray, won: np.ndarray, element: int) -> np.ndarray:
    """Return ``[accesses, width]``: elements in which an access differs from its winner by more than last bits.

    Args:
        data: ``[accesses, width]`` bytes that the lanes store.
        won: Of ``winners``.
        element: Bytes of one element.
    """
    mine = np.ascontiguousarray(data).view(UNSIGNED[element])
    different = mine != mine[won]
    if different.any():
        close = [_close(mine, mine[won], *float_format) for float_format in _FORMATS.get(element, ())]
        if element == 4:
            # Two 16-bit floats side by side.
            halves = np.ascontiguousarray(data).view(np.uint16)
            packed = [_close(halves, halves[won], *float_format) for float_format in _FORMATS[2]]
            close += [pairs.reshape(*mine.shape, 2).all(2) for pairs in packed]
        for same in close:
            different &= ~same
    return np.repeat(different, element, axis=1)


def _close(bits: np.ndarray, other_bits: np.ndarray, name: str, tolerance: float, least: int) -> np.ndarray:
    first, second = (decode(values, name).astype(np.float64) for values in (bits, other_bits))
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    numbers = np.ones(bits.shape, bool)
    for values, magnitudes in ((first, bits & ~sign), (second, other_bits & ~sign)):
        numbers &= np.isfinite(values) & ((magnitudes >= least) | (magnitudes == 0))
    largest = np.abs(first, where=numbers, out=np.zeros_like(first)).max(initial=0)
    return (bits == other_bits) | (numbers & (np.abs(first - second) <= tolerance * largest))
