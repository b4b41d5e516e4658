"""Device arithmetic of mantissa * 2^exponent: what the states of the recursion and the emissions are made of."""

import triton
import triton.language as tl

# Exponent that goes with the value 0; below that of any other value.
ZERO_EXPONENT = tl.constexpr(-(2**29))
# Exponents of other values are held above this: so a product of two states fits into the integer.
LOWEST_EXPONENT = tl.constexpr(-(2**28))
# Base-2 logarithm below which an emission is held: so finite logits always give a finite loss.
LOWEST_EMISSION = tl.constexpr(-(2.0**24))
# And above which, with priors: so 2^16 frames of it fit into the integer.
HIGHEST_EMISSION = tl.constexpr(2.0**14)
LOG2E = tl.constexpr(1.4426950408889634)
# The upper 11 bits of log2(e), and the rest: products with the former are exact.
LOG2E_UPPER = tl.constexpr(1.4423828125)
LOG2E_LOWER = tl.constexpr(0.0003122283889634)


@triton.jit
def pow2_or_0(exponent):
    """``2**exponent``, or 0 below fp32's range; exponents up to 127."""
    return (tl.maximum(exponent + 127, 0) << 23).to(tl.float32, bitcast=True)


@triton.jit
def add_scaled(a, a_exponent, b, b_exponent):
    """Sum of two values with their exponents; a 0 must have the lower one."""
    exponent = tl.maximum(a_exponent, b_exponent)
    return a * pow2_or_0(a_exponent - exponent) + b * pow2_or_0(b_exponent - exponent), exponent


@triton.jit
def normalise(mantissa, exponent):
    """Bring mantissas into [1, 2); NaN stays NaN."""
    shift = (mantissa.to(tl.int32, bitcast=True) >> 23) - 127
    unit = mantissa * ((127 - shift) << 23).to(tl.float32, bitcast=True)
    moved = tl.maximum(exponent + shift, LOWEST_EXPONENT)
    return unit, tl.where(mantissa == 0.0, ZERO_EXPONENT, moved)


@triton.jit
def exp2_centred(x):
    """``2**x`` for x in [-0.5, 0.5], to 1.2 ulp; ``ex2.approx`` has 2 and more."""
    p = x * 1.535336050e-04 + 1.339887502e-03
    p = p * x + 9.618436918e-03
    p = p * x + 5.550332367e-02
    p = p * x + 2.402264774e-01
    p = p * x + 6.931471825e-01
    return p * x + 1.0


@triton.jit
def _subtract(a, b):
    """Difference, and what it rounded off (Knuth's two-sum); NaN for the latter where the former is infinite."""
    difference = a - b
    back = difference - a
    return difference, (a - (difference - back)) - (b + back)


@triton.jit
def split_probability(x, row_max, log_sum, log_prior):
    """Mantissa and exponent of ``exp(x - row_max - log_sum - log_prior)``; ``log_prior`` may be None.

    NaN where ``log_sum`` is NaN, 0 for x = -inf.

    Plainly rounded, (x - max) * log2(e) alone is off by 5e-7 of a probability near e^-10, as much as all other errors
    together: so differences and product keep what they round off.  fp64 would do, at a 64th of the rate on sm_120.
    """
    plain, lost = _subtract(x, row_max)
    if log_prior is not None:
        plain, lost_too = _subtract(plain, log_prior)
        lost += lost_too
    far = plain <= LOWEST_EMISSION
    difference = tl.where(far, LOWEST_EMISSION, plain)
    lost = tl.where(far, 0.0, lost)
    if log_prior is not None:
        lost = tl.where(plain > HIGHEST_EMISSION, 0.0, lost)
        difference = tl.minimum(difference, HIGHEST_EMISSION)

    upper = (difference.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)
    product = upper * LOG2E_UPPER
    rest = upper * LOG2E_LOWER + (difference - upper) * LOG2E + lost * LOG2E

    scale = log_sum * LOG2E
    product_whole, scale_whole = tl.floor(product + 0.5), tl.floor(scale + 0.5)
    fraction = (product - product_whole) - (scale - scale_whole) + rest
    carried = tl.floor(fraction + 0.5)
    whole = product_whole - scale_whole + carried
    fraction -= carried
    fraction = tl.where(whole < LOWEST_EMISSION, 0.0, fraction)
    whole = tl.maximum(whole, LOWEST_EMISSION)

    mantissa = tl.where(x == float("-inf"), 0.0, exp2_centred(fraction))
    exponent = tl.where(x == float("-inf"), ZERO_EXPONENT, tl.where(log_sum == log_sum, whole, 0.0).to(tl.int32))
    return tl.where(log_sum == log_sum, mantissa, float("nan")), exponent
