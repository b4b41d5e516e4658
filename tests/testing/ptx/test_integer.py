"""Integer arithmetic against Python's integers, at the limits of every type."""

import numpy as np
import pytest

from tests.testing.ptx.snippets import edges, evaluate, pairs

TYPES = {"u16": "u2", "s16": "i2", "u32": "u4", "s32": "i4", "u64": "u8", "s64": "i8"}


def wrap(values, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    return np.array([int(value) & ((1 << bits) - 1) for value in values], f"u{bits // 8}").view(dtype)


def quotient(a, b):
    return (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)


BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul.lo": lambda a, b: a * b,
    "min": min,
    "max": max,
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("op", BINARY)
def test_results_wrap_around_as_python_integers_do(op, name):
    a, b = pairs(TYPES[name])
    expected = wrap([BINARY[op](int(x), int(y)) for x, y in zip(a, b, strict=True)], TYPES[name])
    assert np.array_equal(evaluate(f"{op}.{name} %out, %a, %b;", TYPES[name], a=a, b=b), expected)


@pytest.mark.parametrize("name", TYPES)
def test_upper_half_of_a_product_is_exact(name):
    a, b = pairs(TYPES[name])
    bits = int(name[1:])
    expected = wrap([int(x) * int(y) >> bits for x, y in zip(a, b, strict=True)], TYPES[name])
    assert np.array_equal(evaluate(f"mul.hi.{name} %out, %a, %b;", TYPES[name], a=a, b=b), expected)


@pytest.mark.parametrize(("name", "wide"), [("u16", "u4"), ("s16", "i4"), ("u32", "u8"), ("s32", "i8")])
def test_wide_product_has_twice_the_bits(name, wide):
    a, b = pairs(TYPES[name])
    c = np.resize(edges(wide), len(a))
    product = [int(x) * int(y) for x, y in zip(a, b, strict=True)]
    assert np.array_equal(evaluate(f"mul.wide.{name} %out, %a, %b;", wide, a=a, b=b), wrap(product, wide))
    total = wrap([p + int(z) for p, z in zip(product, c, strict=True)], wide)
    assert np.array_equal(evaluate(f"mad.wide.{name} %out, %a, %b, %c;", wide, a=a, b=b, c=c), total)


@pytest.mark.parametrize("name", TYPES)
def test_division_truncates_and_remainder_has_the_sign_of_the_dividend(name):
    a, b = pairs(TYPES[name])
    keep = b != 0
    a, b = a[keep], b[keep]
    whole = [quotient(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    rest = [int(x) - q * int(y) for x, q, y in zip(a, whole, b, strict=True)]
    assert np.array_equal(evaluate(f"div.{name} %out, %a, %b;", TYPES[name], a=a, b=b), wrap(whole, TYPES[name]))
    assert np.array_equal(evaluate(f"rem.{name} %out, %a, %b;", TYPES[name], a=a, b=b), wrap(rest, TYPES[name]))


@pytest.mark.parametrize("name", ["s16", "s32", "s64"])
def test_sign_changes_wrap_at_the_smallest_integer(name):
    a = edges(TYPES[name])
    assert np.array_equal(evaluate(f"neg.{name} %out, %a;", TYPES[name], a=a), wrap([-int(x) for x in a], TYPES[name]))
    assert np.array_equal(
        evaluate(f"abs.{name} %out, %a;", TYPES[name], a=a), wrap([abs(int(x)) for x in a], TYPES[name])
    )


def test_saturating_sum_stops_at_the_limits():
    a, b = pairs("i4")
    expected = np.clip(a.astype(np.int64) + b, -(2**31), 2**31 - 1).astype("i4")
    assert np.array_equal(evaluate("add.sat.s32 %out, %a, %b;", "i4", a=a, b=b), expected)


@pytest.mark.parametrize("bits", [32, 64])
def test_carries_make_sums_and_differences_of_twice_the_width(bits):
    a, b = pairs(f"u{bits // 8}")
    c, d = np.roll(a, 3), np.roll(b, 5)
    mask = (1 << bits) - 1
    for op, function in (("add", lambda x, y: x + y), ("sub", lambda x, y: x - y)):
        code = f".reg .b{bits} %low; {op}.cc.u{bits} %low, %a, %b; {op}c.u{bits} %out, %c, %d;"
        got = evaluate(code, f"u{bits // 8}", a=a, b=b, c=c, d=d)
        wide = [
            function(int(w) << bits | int(x), int(z) << bits | int(y)) >> bits & mask
            for x, y, w, z in zip(a, b, c, d, strict=True)
        ]
        assert np.array_equal(got, np.array(wide, got.dtype)), op


def test_multiply_add_with_carry_makes_a_64_bit_product():
    a, b = pairs("u4")
    code = """.reg .b32 %l; .reg .b32 %h; mov.u32 %l, 0xffffffff;
    mad.lo.cc.u32 %l, %a, %b, %l; madc.hi.u32 %h, %a, %b, 0; mov.b64 %out, {%l, %h};"""
    expected = [(int(x) * int(y) + 0xFFFFFFFF) & (2**64 - 1) for x, y in zip(a, b, strict=True)]
    assert np.array_equal(evaluate(code, "u8", a=a, b=b), np.array(expected, np.uint64))


def test_24_bit_products_use_the_low_24_bits():
    a, b = pairs("i4")

    def low(x):
        x = int(x) & 0xFFFFFF
        return x - (1 << 24) if x >> 23 else x

    products = [low(x) * low(y) for x, y in zip(a, b, strict=True)]
    assert np.array_equal(evaluate("mul24.lo.s32 %out, %a, %b;", "i4", a=a, b=b), wrap(products, "i4"))
    assert np.array_equal(
        evaluate("mul24.hi.s32 %out, %a, %b;", "i4", a=a, b=b), wrap([p >> 16 for p in products], "i4")
    )


def test_sum_of_absolute_differences_and_byte_dot_products():
    a, b = pairs("i4")
    c = np.roll(a, 1)
    expected = wrap([int(z) + abs(int(x) - int(y)) for x, y, z in zip(a, b, c, strict=True)], "i4")
    assert np.array_equal(evaluate("sad.s32 %out, %a, %b, %c;", "i4", a=a, b=b, c=c), expected)
    dots = (a.view("i1").reshape(-1, 4).astype(int) * b.view("i1").reshape(-1, 4)).sum(1)
    expected = wrap([int(z) + int(d) for z, d in zip(c, dots, strict=True)], "i4")
    assert np.array_equal(evaluate("dp4a.s32.s32 %out, %a, %b, %c;", "i4", a=a, b=b, c=c), expected)


def test_packed_16_bit_halves_do_not_carry_into_each_other():
    a, b = pairs("u4")
    expected = (a.view("i2") + b.view("i2")).view("u4")
    assert np.array_equal(evaluate("add.s16x2 %out, %a, %b;", "u4", a=a, b=b), expected)
    expected = np.maximum(a.view("i2"), b.view("i2")).view("u4")
    assert np.array_equal(evaluate("max.s16x2 %out, %a, %b;", "u4", a=a, b=b), expected)


def test_narrow_results_extend_by_their_sign_into_wide_registers():
    a = edges("i2")
    code = ".reg .b32 %w; cvt.s32.s16 %w, %a; mov.b32 %out, %w;"
    assert np.array_equal(evaluate(code, "i4", a=a), a.astype("i4"))
