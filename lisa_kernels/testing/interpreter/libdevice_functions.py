"""What each function of libdevice computes, on numpy arrays; ``libdevice`` calls them on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch


def _by_torch(function: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    def compute(*arrays: np.ndarray) -> np.ndarray:
        return function(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)).numpy()

    return compute


def _reciprocal(x: np.ndarray) -> np.ndarray:
    return 1 / x


def _reciprocal_root(x: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(x)


def _power_of_ten(x: np.ndarray) -> np.ndarray:
    return np.power(10.0, x)


def _positive_difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``x - y`` where it is positive, 0 where it is not, NaN where either is."""
    return np.where(x > y, x - y, np.where(x <= y, 0, x + y))


def _saturate(x: np.ndarray) -> np.ndarray:
    """Clamp to 0 to 1; NaN becomes 0."""
    return np.fmin(np.fmax(x, 0), 1)


def _half_away(x: np.ndarray) -> np.ndarray:
    """Round to the nearest integer, halves away from zero."""
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)


def _ieee_remainder(x: float, y: float) -> float:
    return math.remainder(x, y) if math.isfinite(x) and y and not math.isnan(y) else math.nan


# Take fp64 arrays and return one.
FLOAT: dict[str, Callable[..., np.ndarray]] = {
    # Exponentials, logarithms, powers and roots.
    "exp": np.exp,
    "exp2": np.exp2,
    "exp10": _power_of_ten,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "pow": np.power,
    "sqrt": np.sqrt,
    "rsqrt": _reciprocal_root,
    "cbrt": np.cbrt,
    "hypot": np.hypot,
    # Trigonometric and hyperbolic functions.
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    # Functions of statistics and physics.
    "erf": _by_torch(torch.erf),
    "erfc": _by_torch(torch.erfc),
    "erfinv": _by_torch(torch.erfinv),
    "lgamma": _by_torch(torch.lgamma),
    "normcdf": _by_torch(torch.special.ndtr),
    "j0": _by_torch(torch.special.bessel_j0),
    # Rounding to integers, and remainders.
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "nearbyint": np.rint,
    "round": _half_away,
    "fmod": np.fmod,
    "remainder": np.vectorize(_ieee_remainder, otypes=[np.float64]),
    # Signs and ranges.
    "abs": np.abs,
    "copysign": np.copysign,
    "fdim": _positive_difference,
    "saturatef": _saturate,
    # Arithmetic rounded to nearest.
    "add_rn": np.add,
    "sub_rn": np.subtract,
    "mul_rn": np.multiply,
    "div_rn": np.divide,
    "rcp_rn": _reciprocal,
    "sqrt_rn": np.sqrt,
    "rsqrt_rn": _reciprocal_root,
    # Approximations on a GPU.
    "fast_expf": np.exp,
    "fast_exp10f": _power_of_ten,
    "fast_logf": np.log,
    "fast_log2f": np.log2,
    "fast_log10f": np.log10,
    "fast_powf": np.power,
    "fast_sinf": np.sin,
    "fast_cosf": np.cos,
    "fast_tanf": np.tan,
    "fast_tanhf": np.tanh,
    "fast_dividef": np.divide,
}
# Take fp64 arrays and return booleans, which become int32.
TEST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "isnan": np.isnan,
    "isinf": np.isinf,
    "finitef": np.isfinite,
    "isfinited": np.isfinite,
    "signbit": np.signbit,
}
# Take one unsigned integer and its width in bits.
BITS: dict[str, Callable[[int, int], int]] = {
    "popc": lambda x, width: int(x).bit_count(),
    "clz": lambda x, width: width - int(x).bit_length(),
    "ffs": lambda x, width: (int(x) & -int(x)).bit_length(),
}
