"""Comparison and selection against numpy and the ISA's rules for NaN."""

import operator

import numpy as np
import pytest

from tests.testing.ptx.snippets import evaluate, float_edges, pairs

TESTS = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
UNSIGNED = {"lo": operator.lt, "ls": operator.le, "hi": operator.gt, "hs": operator.ge}


@pytest.mark.parametrize("name", ["s16", "u32", "s32", "u64", "s64"])
def test_integers_are_compared_with_their_sign(name):
    dtype = ("i" if name[0] == "s" else "u") + str(int(name[1:]) // 8)
    a, b = pairs(dtype)
    for test, function in TESTS.items():
        assert np.array_equal(evaluate(f"setp.{test}.{name} %out, %a, %b;", "?", a=a, b=b), function(a, b)), test


def test_unsigned_names_compare_unsigned_integers():
    a, b = pairs("u4")
    for test, function in UNSIGNED.items():
        assert np.array_equal(evaluate(f"setp.{test}.u32 %out, %a, %b;", "?", a=a, b=b), function(a, b)), test


@pytest.mark.parametrize(("name", "dtype"), [("f32", "f4"), ("f64", "f8"), ("f16", "f2")])
def test_nan_makes_ordered_tests_false_and_unordered_ones_true(name, dtype):
    values = float_edges(dtype, 4)
    a, b = (grid.reshape(-1).copy() for grid in np.meshgrid(values, values))
    unordered = np.isnan(a) | np.isnan(b)
    inputs = {"a": a.view("u2"), "b": b.view("u2")} if name == "f16" else {"a": a, "b": b}
    for test, function in TESTS.items():
        ordered = function(a, b) & ~unordered
        assert np.array_equal(evaluate(f"setp.{test}.{name} %out, %a, %b;", "?", **inputs), ordered), test
        got = evaluate(f"setp.{test}u.{name} %out, %a, %b;", "?", **inputs)
        assert np.array_equal(got, function(a, b) | unordered), test
    assert np.array_equal(evaluate(f"setp.nan.{name} %out, %a, %b;", "?", **inputs), unordered)
    assert np.array_equal(evaluate(f"setp.num.{name} %out, %a, %b;", "?", **inputs), ~unordered)


def test_second_predicate_is_the_opposite_before_it_is_combined():
    a, b = pairs("i4")
    c = np.arange(len(a)) % 2 == 0
    code = ".reg .pred %q; setp.lt.and.s32 %q|%out, %a, %b, %c;"
    assert np.array_equal(evaluate(code, "?", a=a, b=b, c=c), ~(a < b) & c)
    code = ".reg .pred %q; setp.lt.or.s32 %out|%q, %a, %b, !%c;"
    assert np.array_equal(evaluate(code, "?", a=a, b=b, c=c), (a < b) | ~c)


def test_flush_to_zero_makes_subnormals_equal_zero():
    a = np.array([2.0**-130, -(2.0**-130), 0], "f4")
    assert evaluate("setp.eq.ftz.f32 %out, %a, 0f00000000;", "?", a=a).all()
    assert not evaluate("setp.eq.f32 %out, %a, 0f00000000;", "?", a=a)[:2].any()


def test_set_gives_all_ones_or_one():
    a, b = pairs("i4")
    got = evaluate("set.gt.u32.s32 %out, %a, %b;", "u4", a=a, b=b)
    assert np.array_equal(got, np.where(a > b, 2**32 - 1, 0).astype("u4"))
    got = evaluate("set.gt.f32.s32 %out, %a, %b;", "f4", a=a, b=b)
    assert np.array_equal(got, (a > b).astype("f4"))


def test_selection_moves_bits_unchanged():
    a, b = float_edges(), np.roll(float_edges(), 1)
    c = np.arange(len(a)) % 3 == 0
    got = evaluate("selp.f32 %out, %a, %b, %c;", "u4", a=a, b=b, c=c)
    assert np.array_equal(got, np.where(c, a.view("u4"), b.view("u4")))
    by = np.arange(len(a), dtype="i4") - 50
    got = evaluate("slct.f32.s32 %out, %a, %b, %n;", "u4", a=a, b=b, n=by)
    assert np.array_equal(got, np.where(by >= 0, a.view("u4"), b.view("u4")))


def test_properties_of_floats():
    a = float_edges()
    tiny = np.finfo("f4").tiny
    expected = {
        "finite": np.isfinite(a),
        "infinite": np.isinf(a),
        "number": ~np.isnan(a),
        "notanumber": np.isnan(a),
        "normal": np.isfinite(a) & (np.abs(a) >= tiny),
        "subnormal": (np.abs(a) < tiny) & (a != 0),
    }
    for name, values in expected.items():
        assert np.array_equal(evaluate(f"testp.{name}.f32 %out, %a;", "?", a=a), values), name
