"""Device code of running statistics of rows, taken a block of classes at a time.

Statistics of a row are its maximum m, how many classes are that maximum, the sum of exp(x - m) of the others and, for
the entropy, the sum of (x - m) exp(x - m).  Maxima are counted apart, because on a confident model the sum is 1 and
little more: rounded to fp32 it would move all probabilities.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

# Held above -inf, of which -inf cannot be taken.
_LOWEST = tl.constexpr(-3.4e38)


@triton.jit
def no_classes(ROWS: tl.constexpr):
    """Statistics of no classes: maximum, maxima, others, spread."""
    zeros = tl.zeros([ROWS], tl.float32)
    return tl.full([ROWS], float("-inf"), tl.float32), zeros, zeros, zeros


@triton.jit
def _lowered(row_max, raised):
    """How far the old maximum lies below the new one, 0 or less; 0 where there was none."""
    return tl.where(row_max > float("-inf"), row_max - tl.maximum(raised, _LOWEST), 0.0)


@triton.jit
def take_classes(x, row_max, maxima, others, spread, SPREAD: tl.constexpr):
    """Statistics with the classes ``x``, ``[ROWS, BLOCK]``, beside those before; ``spread`` is left without SPREAD."""
    raised = tl.maximum(row_max, tl.max(x, 1))
    distance = x - tl.maximum(raised, _LOWEST)[:, None]
    is_max = x == raised[:, None]
    e = tl.where(is_max, 0.0, tl.exp(distance))
    is_max = is_max & (raised > float("-inf"))[:, None]
    lowered = _lowered(row_max, raised)
    shrunk = tl.exp(lowered)
    grown = raised > row_max
    if SPREAD:
        before = shrunk * (spread + lowered * (maxima + others))
        spread = tl.sum(tl.where(e > 0.0, e * distance, 0.0), 1) + tl.where(grown, before, spread)
    others = tl.sum(e, 1) + tl.where(grown, (maxima + others) * shrunk, others)
    maxima = tl.sum(is_max.to(tl.float32), 1) + tl.where(grown, 0.0, maxima)
    return raised, maxima, others, spread


@triton.jit
def log_sum_of(maxima, others):
    """Log of the sum of exp(x - m); NaN for a row without any possible class."""
    return libdevice.log(maxima) + libdevice.log1p(others / maxima)


@triton.jit
def take_divergence(divergence, x, y, x_max, x_raised, y_max, y_sum, y_raised):
    """Sum of exp(y - m_y) ((y - m_y) - (x - m_x)) with the classes ``x`` and ``y`` beside those before.

    Args:
        x_max, y_max, y_sum: Maxima and the sum of exp(y - m_y) before these classes.
        x_raised, y_raised: Maxima with them.
    """
    lowered = _lowered(y_max, y_raised)
    shrunk = tl.exp(lowered)
    before = shrunk * (divergence + (lowered - _lowered(x_max, x_raised)) * y_sum)
    # A class that is impossible counts 0 in its own expectation.
    before = tl.where((y_sum > 0.0) & (shrunk > 0.0), before, 0.0)
    own = y - tl.maximum(y_raised, _LOWEST)[:, None]
    e = tl.exp(own)
    return before + tl.sum(tl.where(e > 0.0, e * (own - (x - tl.maximum(x_raised, _LOWEST)[:, None])), 0.0), 1)
