"""Device helpers that give the same values on a GPU and in the Triton interpreter.

The interpreter holds a bf16 tile as raw uint16 bits: arithmetic and ``tl.dot`` on it are wrong without any error, and
its cast to bf16 truncates.  So: load, go to fp32 at once, and come back only through ``to_dtype``.  The interpreter
branches are compile-time constants and cost nothing on a GPU.
"""

import triton
import triton.language as tl

INTERPRET = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(a, b, acc=None, PRECISION: tl.constexpr = "tf32"):
    """``acc + a @ b`` with an fp32 accumulator; operands keep their dtype on a GPU (tensor cores).

    ``PRECISION`` is that of fp32 operands there, as ``input_precision`` of ``tl.dot``.
    """
    if INTERPRET:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def exp2(x):
    """``2**x`` of an fp32 tile."""
    return tl.exp2(x)


@triton.jit
def block_offsets(axis: tl.constexpr, BLOCK: tl.constexpr):
    """Positions of this program's block along a grid axis, int64: a product of two int32 wraps at 2**31 elements."""
    return tl.program_id(axis).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def to_dtype(x, dtype: tl.constexpr):
    """Cast an fp32 tile, rounding to nearest even; NaN stays NaN."""
    if INTERPRET and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        # A NaN whose low mantissa bits carry over would turn into an infinity.
        rounded = tl.where(x != x, 0x7FC0, rounded)
        return rounded.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return x.to(dtype)
