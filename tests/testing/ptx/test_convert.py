"""Conversions against torch's casts, bit for bit, on edge values and random bit patterns."""

import numpy as np
import pytest
import torch

from tests.testing.ptx.snippets import edges, evaluate, float_edges, same_floats

FLOATS = float_edges(count=20_000)


def halves(dtype):
    """All 65536 values of a 16-bit float."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)


def test_float32_to_half_rounds_as_torch_does():
    expected = torch.from_numpy(FLOATS).half().numpy()
    got = evaluate("cvt.rn.f16.f32 %out, %a;", "u2", a=FLOATS).view("f2")
    assert same_floats(got, expected)


def test_float32_to_bf16_rounds_as_torch_does():
    expected = torch.from_numpy(FLOATS).bfloat16()
    got = torch.from_numpy(evaluate("cvt.rn.bf16.f32 %out, %a;", "i2", a=FLOATS)).view(torch.bfloat16)
    assert torch.equal(got.isnan(), expected.isnan())
    number = ~expected.isnan()
    assert torch.equal(got.view(torch.int16)[number], expected.view(torch.int16)[number])


@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_every_half_widens_exactly(name, dtype):
    values = halves(dtype)
    got = evaluate(f"cvt.f32.{name} %out, %a;", "f4", a=values.view(torch.int16).numpy())
    assert same_floats(got, values.float().numpy())


@pytest.mark.parametrize("name", ["f16x2", "bf16x2"])
def test_packed_conversion_puts_the_first_operand_into_the_upper_half(name):
    a, b = FLOATS[:4000], np.roll(FLOATS[:4000], 1)
    element = name.removesuffix("x2")
    high, low = (evaluate(f"cvt.rn.{element}.f32 %out, %a;", "u2", a=values).astype("u4") for values in (a, b))
    got = evaluate(f"cvt.rn.{name}.f32 %out, %a, %b;", "u4", a=a, b=b)
    assert np.array_equal(got, high << np.uint32(16) | low)


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_directed_roundings_never_cross_the_value(name, mode):
    a = FLOATS[np.isfinite(FLOATS) & (np.abs(FLOATS) < 6e4)]
    bits = evaluate(f"cvt.{mode}.{name}.f32 %out, %a;", "u2", a=a)
    dtype = torch.float16 if name == "f16" else torch.bfloat16
    got = torch.from_numpy(bits.view("i2")).view(dtype).float().numpy()
    nearest = torch.from_numpy(a).to(dtype).float().numpy()
    side = {"rz": np.abs(got) <= np.abs(a), "rm": got <= a, "rp": got >= a}[mode]
    assert side.all()
    # Where nearest lies on the right side, both agree.
    agrees = {"rz": np.abs(nearest) <= np.abs(a), "rm": nearest <= a, "rp": nearest >= a}[mode]
    assert np.array_equal(got[agrees], nearest[agrees])
    assert not np.array_equal(got, nearest)


@pytest.mark.parametrize(("name", "dtype"), [("e4m3x2", torch.float8_e4m3fn), ("e5m2x2", torch.float8_e5m2)])
def test_float8_rounds_as_torch_does_inside_its_range(name, dtype):
    largest = torch.finfo(dtype).max
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.standard_normal(3000) * 2.0 ** rng.integers(-14, 8, 3000), [0.0, -0.0]]).astype("f4")
    a = np.clip(a, -largest, largest)
    b = np.roll(a, 1)
    expected = [torch.from_numpy(values).to(dtype).view(torch.uint8).numpy().astype("u2") for values in (a, b)]
    got = evaluate(f"cvt.rn.satfinite.{name}.f32 %out, %a, %b;", "u2", a=a, b=b)
    assert np.array_equal(got, expected[0] << np.uint16(8) | expected[1])


@pytest.mark.parametrize(("name", "dtype"), [("e4m3x2", torch.float8_e4m3fn), ("e5m2x2", torch.float8_e5m2)])
def test_float8_beyond_its_range_becomes_the_largest_number(name, dtype):
    a = np.array([1e6, -1e6, np.inf, -np.inf], "f4")
    got = evaluate(f"cvt.rn.satfinite.{name}.f32 %out, %a, %a;", "u2", a=a)
    values = torch.from_numpy((got & 0xFF).astype("u1")).view(dtype).float()
    assert values.tolist() == [torch.finfo(dtype).max * sign for sign in (1, -1, 1, -1)]


def test_every_float8_widens_exactly():
    codes = np.arange(256, dtype="u2")
    codes = codes | codes << np.uint16(8)
    for name, dtype in (("e4m3x2", torch.float8_e4m3fn), ("e5m2x2", torch.float8_e5m2)):
        got = evaluate(f"cvt.rn.f16x2.{name} %out, %a;", "u4", a=codes).view("f2")
        expected = torch.arange(256, dtype=torch.uint8).view(dtype).half().numpy()
        assert same_floats(got[::2].copy(), expected), name


def test_tf32_rounds_ties_away_and_keeps_ten_bits():
    a = FLOATS[np.isfinite(FLOATS)]
    got = evaluate("cvt.rna.tf32.f32 %out, %a;", "u4", a=a)
    expected = (a.view("u4").astype("u8") + 0x1000 & 0xFFFFE000).astype("u4")
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
@pytest.mark.parametrize("target", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
def test_floats_to_integers_clamp_and_nan_is_zero(target, mode):
    a = np.concatenate(
        [FLOATS[:300], np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 255.5, 2.0**31, -(2.0**31)], "f4")]
    )
    size = max(2, int(target[1:]) // 8)
    dtype = np.dtype(("i" if target[0] == "s" else "u") + str(size))
    limits = np.iinfo(f"{dtype.kind}{int(target[1:]) // 8}")
    function = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode]
    expected = []
    for value in a.astype("f8"):
        whole = 0 if np.isnan(value) else function(value)
        whole = limits.max if whole >= limits.max else limits.min if whole <= limits.min else int(whole)
        expected.append(whole)
    got = evaluate(f"cvt.{mode}.{target}.f32 %out, %a;", dtype.str[1:], a=a)
    assert np.array_equal(got, np.array(expected, dtype))


@pytest.mark.parametrize("name", ["s8", "u16", "s32", "u32", "s64", "u64"])
def test_integers_to_floats_round_as_torch_does(name):
    size = int(name[1:]) // 8
    a = edges(("i" if name[0] == "s" else "u") + str(size), 1000)
    assert np.array_equal(evaluate(f"cvt.rn.f32.{name} %out, %a;", "f4", a=a), a.astype("f4"))
    assert np.array_equal(evaluate(f"cvt.rn.f64.{name} %out, %a;", "f8", a=a), a.astype("f8"))


def test_64_bit_integers_round_to_bf16_once():
    # Just above a tie of bf16 by one: lost if the integer first becomes a double.
    a = np.array([(257 << 54) + 1, (257 << 54), (259 << 54) - 1, -(257 << 54) - 1, 5], "i8")
    got = evaluate("cvt.rn.bf16.s64 %out, %a;", "u2", a=a).astype("u4") << np.uint32(16)
    expected = [258 * 2.0**54, 256 * 2.0**54, 258 * 2.0**54, -258 * 2.0**54, 5]
    assert got.view("f4").tolist() == expected


def test_integers_to_floats_in_directed_modes_bracket_the_integer():
    a = edges("i8", 1000)
    low, high = (evaluate(f"cvt.{mode}.f32.s64 %out, %a;", "f4", a=a) for mode in ("rm", "rp"))
    exact = [int(value) for value in a]
    assert all(int(x) <= v <= int(y) for x, v, y in zip(low, exact, high, strict=True))
    nearest = a.astype("f4")
    assert ((nearest == low) | (nearest == high)).all()


def test_integer_conversions_truncate_extend_and_saturate():
    a = edges("i4", 300)
    assert np.array_equal(evaluate("cvt.s8.s32 %out, %a;", "i2", a=a), a.astype("i1").astype("i2"))
    assert np.array_equal(evaluate("cvt.u8.s32 %out, %a;", "u2", a=a), a.astype("u1").astype("u2"))
    assert np.array_equal(evaluate("cvt.sat.s8.s32 %out, %a;", "i2", a=a), np.clip(a, -128, 127).astype("i2"))
    assert np.array_equal(evaluate("cvt.sat.u8.s32 %out, %a;", "u2", a=a), np.clip(a, 0, 255).astype("u2"))
    assert np.array_equal(evaluate("cvt.s64.s32 %out, %a;", "i8", a=a), a.astype("i8"))
    unsigned = a.view("u4")
    assert np.array_equal(evaluate("cvt.u64.u32 %out, %a;", "u8", a=unsigned), unsigned.astype("u8"))


def test_rounding_to_integral_floats_and_flushing():
    a = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 3.7, -3.7, 2.0**-130], "f4")
    for mode, function in (("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)):
        assert same_floats(evaluate(f"cvt.{mode}.f32.f32 %out, %a;", "f4", a=a), function(a)), mode
    assert evaluate("cvt.rpi.ftz.f32.f32 %out, %a;", "f4", a=a)[-1] == 0


def test_double_to_float_rounds_once():
    a = float_edges("f8", 2000)
    with np.errstate(all="ignore"):
        assert same_floats(evaluate("cvt.rn.f32.f64 %out, %a;", "f4", a=a), a.astype("f4"))
    single = FLOATS[:2000]
    with np.errstate(all="ignore"):
        assert same_floats(evaluate("cvt.f64.f32 %out, %a;", "f8", a=single), single.astype("f8"))


def test_packing_saturates_two_integers():
    a, b = edges("i4", 200), np.roll(edges("i4", 200), 1)
    got = evaluate("cvt.pack.sat.s16.s32 %out, %a, %b;", "u4", a=a, b=b)
    halves_of = [np.clip(values, -(2**15), 2**15 - 1).astype("i2").view("u2").astype("u4") for values in (a, b)]
    assert np.array_equal(got, halves_of[0] << np.uint32(16) | halves_of[1])
