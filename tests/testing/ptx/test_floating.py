"""Floating-point arithmetic: rounded once, in every mode, against exact rational numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.testing.ptx.snippets import evaluate, float_edges, same_floats

rng = np.random.default_rng(0)


def nearby(count=400):
    """Pairs of floats whose exponents are close enough that sums lose bits."""
    a = rng.standard_normal(count).astype("f4")
    b = (rng.standard_normal(count) * 2.0 ** rng.integers(-30, 3, count)).astype("f4")
    return a, b


def round_exactly(exact: Fraction, mode: str) -> np.float32:
    """A rational number, not 0 and in the normal range, as float32."""
    nearest = np.float32(float(exact))
    # float() rounds to double first: step to the neighbours until the exact value is bracketed.
    below = nearest
    while Fraction(float(below)) > exact:
        below = np.nextafter(below, np.float32(-np.inf))
    while Fraction(float(np.nextafter(below, np.float32(np.inf)))) <= exact:
        below = np.nextafter(below, np.float32(np.inf))
    if Fraction(float(below)) == exact:
        return below
    above = np.nextafter(below, np.float32(np.inf))
    if mode == "rm" or (mode == "rz" and exact > 0):
        return below
    if mode == "rp" or mode == "rz":
        return above
    low, high = exact - Fraction(float(below)), Fraction(float(above)) - exact
    if low != high:
        return below if low < high else above
    return below if below.view("u4") % 2 == 0 else above


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "fma"])
def test_float32_results_are_rounded_once_in_each_mode(op, mode):
    a, b = nearby()
    c = (rng.standard_normal(len(a)) * 2.0 ** rng.integers(-40, 10, len(a))).astype("f4")
    function = {
        "add": lambda x, y, z: x + y,
        "sub": lambda x, y, z: x - y,
        "mul": lambda x, y, z: x * y,
        "div": lambda x, y, z: x / y,
        "fma": lambda x, y, z: x * y + z,
    }[op]
    exact = [function(*(Fraction(float(v)) for v in row)) for row in zip(a, b, c, strict=True)]
    expected = np.array([round_exactly(value, mode) for value in exact], "f4")
    last = ", %c" if op == "fma" else ""
    got = evaluate(f"{op}.{mode}.f32 %out, %a, %b{last};", "f4", a=a, b=b, c=c)
    assert np.array_equal(got, expected)


def test_fma_does_not_round_twice():
    # The exact sum lies 2^-60 below a tie of float32; as a double it is that tie, which would round up to even.
    a = np.array([2.0**-12 * (1 + 2.0**-18)], "f4")
    b = np.array([2.0**-12 * (1 - 2.0**-18)], "f4")
    c = np.array([1 + 2.0**-23], "f4")
    twice = (a.astype("f8") * b + c).astype("f4")
    assert twice[0] != c[0]
    assert evaluate("fma.rn.f32 %out, %a, %b, %c;", "f4", a=a, b=b, c=c)[0] == c[0]


def test_special_values_follow_ieee_754():
    values = float_edges()
    a, b = (grid.reshape(-1).copy() for grid in np.meshgrid(values[:20], values[:20]))
    with np.errstate(all="ignore"):
        for op, function in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div.rn", np.divide)):
            assert same_floats(evaluate(f"{op}.f32 %out, %a, %b;", "f4", a=a, b=b), function(a, b)), op


def test_double_fma_is_exact():
    a, b = rng.standard_normal((2, 200))
    c = -a * b
    expected = np.array([float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)])
    assert np.array_equal(evaluate("fma.rn.f64 %out, %a, %b, %c;", "f8", a=a, b=b, c=c), expected)
    assert (expected != 0).any()


def test_flush_to_zero_keeps_signs_and_flushes_results_too():
    tiny = np.float32(2.0**-126)
    a = np.array([tiny / 2, -tiny / 2, tiny, tiny, -tiny], "f4")
    b = np.array([1, 1, 0.5, 1, 0.5], "f4")
    got = evaluate("mul.ftz.f32 %out, %a, %b;", "f4", a=a, b=b)
    assert same_floats(got, np.array([0.0, -0.0, 0.0, tiny, -0.0], "f4"))
    assert same_floats(evaluate("mul.f32 %out, %a, %b;", "f4", a=a, b=b), a * b)


def test_saturation_clamps_and_maps_nan_to_zero():
    a = np.array([-1, 0.25, 2, np.inf, -np.inf, np.nan], "f4")
    got = evaluate("add.sat.f32 %out, %a, 0f00000000;", "f4", a=a)
    assert same_floats(got, np.array([0, 0.25, 1, 1, 0, 0], "f4"))


@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("op", ["add", "mul", "fma"])
def test_half_results_are_rounded_once(name, dtype, op):
    # Products and sums of halves in double are exact for these magnitudes.
    a, b, c = (torch.randn(512).to(dtype) for _ in "abc")
    exact = {
        "add": a.double() + b.double(),
        "mul": a.double() * b.double(),
        "fma": a.double() * b.double() + c.double(),
    }
    # double to half in torch goes through float: rounding to odd there would be needed; ties are rare but possible.
    expected = torch.tensor([_to_half(x, name) for x in exact[op].tolist()], dtype=torch.float64).to(dtype)
    bits = {k: v.view(torch.int16).numpy().view("u2") for k, v in (("a", a), ("b", b), ("c", c))}
    last = ", %c" if op == "fma" else ""
    rounding = ".rn" if op == "fma" else ""
    got = evaluate(f"{op}{rounding}.{name} %out, %a, %b{last};", "u2", **bits)
    assert np.array_equal(got, expected.view(torch.int16).numpy().view("u2"))
    # Two halves in one register.
    packed = {k: v.view("u4") for k, v in bits.items()}
    got = evaluate(f"{op}{rounding}.{name}x2 %out, %a, %b{last};", "u4", **packed)
    assert np.array_equal(got.view("u2"), expected.view(torch.int16).numpy().view("u2"))


def _to_half(value: float, name: str) -> float:
    """Nearest half, ties to even, of a number in the normal range."""
    if value == 0:
        return value
    digits = {"f16": 11, "bf16": 8}[name]
    exponent = max(math.frexp(value)[1], -13 if name == "f16" else -125)
    unit = Fraction(2) ** (exponent - digits)
    return float(round(Fraction(value) / unit) * unit)


@pytest.mark.parametrize("op", ["min", "max"])
def test_extrema_order_zeros_and_treat_nan_as_missing(op):
    values = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan], "f4")
    a, b = (grid.reshape(-1).copy() for grid in np.meshgrid(values, values))
    key = lambda x: (x, not np.signbit(x))  # noqa: E731
    expected = []
    for x, y in zip(a, b, strict=True):
        if np.isnan(x) or np.isnan(y):
            expected.append(y if np.isnan(x) else x)
        else:
            expected.append((min if op == "min" else max)(x, y, key=key))
    assert same_floats(evaluate(f"{op}.f32 %out, %a, %b;", "f4", a=a, b=b), np.array(expected, "f4"))
    either = np.isnan(a) | np.isnan(b)
    got = evaluate(f"{op}.NaN.f32 %out, %a, %b;", "f4", a=a, b=b)
    assert same_floats(got, np.where(either, np.float32(np.nan), np.array(expected, "f4")))


def test_xorsign_takes_the_sign_of_the_product():
    a, b = (grid.reshape(-1).copy() for grid in np.meshgrid(*[np.array([0.0, -0.0, 1, -2, 3], "f4")] * 2))
    magnitude = np.minimum(np.abs(a), np.abs(b))
    expected = np.where(np.signbit(a) ^ np.signbit(b), -magnitude, magnitude)
    assert same_floats(evaluate("min.xorsign.abs.f32 %out, %a, %b;", "f4", a=a, b=b), expected)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_square_roots_and_reciprocals_round_in_each_mode(mode):
    a = np.abs(rng.standard_normal(300)).astype("f4")
    reciprocals = np.array([round_exactly(1 / Fraction(float(x)), mode) for x in a], "f4")
    assert np.array_equal(evaluate(f"rcp.{mode}.f32 %out, %a;", "f4", a=a), reciprocals)
    got = evaluate(f"sqrt.{mode}.f32 %out, %a;", "f4", a=a)
    for x, root in zip(a.tolist(), got, strict=True):
        exact, square = Fraction(x), Fraction(float(root)) ** 2
        above = Fraction(float(np.nextafter(root, np.float32(np.inf)))) ** 2
        below = Fraction(float(np.nextafter(root, np.float32(0)))) ** 2
        if mode in ("rz", "rm"):
            assert square <= exact < above
        elif mode == "rp":
            assert below < exact <= square
        else:
            assert below < exact < above


def test_approximate_functions_are_within_an_ulp_of_the_function():
    a = np.linspace(0.1, 9, 300).astype("f4")
    wide = a.astype("f8")
    for op, expected in {
        "ex2.approx.ftz.f32": np.exp2(wide), "lg2.approx.f32": np.log2(wide), "sin.approx.f32": np.sin(wide),
        "cos.approx.f32": np.cos(wide), "tanh.approx.f32": np.tanh(wide), "rsqrt.approx.f32": 1 / np.sqrt(wide),
    }.items():  # fmt: skip
        assert np.array_equal(evaluate(f"{op} %out, %a;", "f4", a=a), expected.astype("f4")), op


def test_sign_operations_touch_nothing_else():
    a = float_edges()
    b = np.roll(a, 1)
    assert same_floats(evaluate("neg.f32 %out, %a;", "f4", a=a), -a)
    assert same_floats(evaluate("abs.f32 %out, %a;", "f4", a=a), np.abs(a))
    # copysign takes the sign of the first operand.
    assert same_floats(evaluate("copysign.f32 %out, %a, %b;", "f4", a=a, b=b), np.copysign(b, a))
    half = float_edges("f2")
    got = evaluate("neg.f16 %out, %a;", "u2", a=half.view("u2")).view("f2")
    assert same_floats(got, -half)


def test_two_floats_in_one_register_are_independent():
    a, b = nearby(256)
    c = np.roll(a, 1)
    got = evaluate("fma.rn.f32x2 %out, %a, %b, %c;", "u8", a=a.view("u8"), b=b.view("u8"), c=c.view("u8"))
    single = evaluate("fma.rn.f32 %out, %a, %b, %c;", "f4", a=a, b=b, c=c)
    assert np.array_equal(got.view("f4"), single)


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_mixed_precision_rounds_once_to_float32(name):
    a, b = nearby()
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[name]
    narrow = torch.from_numpy(a).to(dtype)
    bits, wide = narrow.view(torch.int16).numpy().view("u2"), narrow.float().numpy()
    for op, expected in (("add", wide + b), ("sub", wide - b)):
        assert np.array_equal(evaluate(f"{op}.rn.f32.{name} %out, %a, %b;", "f4", a=bits, b=b), expected), op
    exact = (wide.astype("f8") * wide + b).astype("f4")
    assert np.array_equal(evaluate(f"fma.rn.f32.{name} %out, %a, %a, %b;", "f4", a=bits, b=b), exact)


def test_double_approximations_flush_subnormals():
    a = np.array([2.0, -4.0, 5e-324, 0.0])
    assert np.array_equal(evaluate("rcp.approx.ftz.f64 %out, %a;", "f8", a=a), [0.5, -0.25, np.inf, np.inf])
