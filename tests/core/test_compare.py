"""The tolerance rule: what is just inside passes, what is just outside does not, and the message says where."""

import math

import pytest
import torch

from lisa_kernels.testing import assert_matches, compare, same_bits, tolerance

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def spread(count=1000):
    """Values of size 1 in fp64."""
    return torch.linspace(-1, 1, count, dtype=torch.float64)


@pytest.mark.parametrize("depth", [1, 100, 10_000])
def test_fp32_tolerance_is_four_ulps_and_half_an_ulp_per_root_of_the_depth(depth):
    assert tolerance(torch.float32, depth).value == pytest.approx(2**-23 * (4 + math.sqrt(depth) / 2))


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_results_may_be_rounded_once_more(dtype, rounding):
    single, half = tolerance(torch.float32, 64).value, tolerance(dtype, 64).value
    assert rounding < half - single < 1.001 * rounding


def test_half_roundings_add_as_their_square_root_and_leave_fp32_alone():
    once, four = (tolerance(torch.bfloat16, half_roundings=n).value for n in (1, 4))
    assert once + 2**-8 < four < once + 1.01 * 2**-8
    assert tolerance(torch.float32, half_roundings=4) == tolerance(torch.float32)


def test_fp64_tolerance_excludes_a_step_in_fp32():
    """One fp32 rounding is 6e-8; hundreds of fp64 roundings at values of 1e4 are 1e-10."""
    assert 1e-12 < tolerance(torch.float64, 16_000).value < 1e-9


def test_integers_must_be_equal_and_depth_positive():
    assert tolerance(torch.int64).value == 0
    with pytest.raises(ValueError, match="depth is 0"):
        tolerance(torch.float32, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("factor", "passes"), [(0.9, True), (1.1, False)])
def test_one_wrong_element_passes_below_the_bound_and_fails_above(dtype, factor, passes):
    expected = spread()
    got = expected.to(dtype).double().clone()
    # The exact input of the comparison: the rounded values plus one error, relative to the largest value, 1.
    got[3] = expected[3] + factor * tolerance(dtype, 50).value
    assert compare(got.to(dtype), expected, depth=50).passed is passes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_rounded_half_passes_and_twice_the_rounding_fails(dtype):
    expected = spread()
    assert compare(expected.to(dtype), expected, depth=50).passed
    doubled = expected + 2 * (expected.to(dtype).double() - expected)
    assert not compare((doubled * (1 + 2 * torch.finfo(dtype).eps)).to(dtype), expected, depth=50).passed


def test_many_small_errors_fail_by_their_rms():
    """No element is off by the bound of the largest value, but together they are by that of the RMS value."""
    expected = torch.full((1000,), 1e-2, dtype=torch.float64)
    expected[0] = 1
    # The RMS value is 0.033.
    got = expected + 0.5 * tolerance(torch.float32).value
    with pytest.raises(AssertionError, match="RMS error over RMS value"):
        assert_matches(got.float(), expected)
    got[1:] = expected[1:]
    assert_matches(got.float(), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_equal_tensors_pass_at_every_size_and_scale(dtype):
    for shape in ((), (0,), (1,), (3, 0, 2), (5, 7)):
        value = torch.full(shape, 3.0, dtype=dtype)
        assert_matches(value, value.double())
    zero = torch.zeros(4, dtype=dtype)
    assert_matches(zero, zero.double())


def test_anything_but_zero_fails_where_all_is_zero():
    got = torch.zeros(4)
    got[2] = 1e-20
    with pytest.raises(AssertionError, match=r"output\[2\]: got 9.99999968e-21"):
        assert_matches(got, torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("got", "expected"),
    [("nan", "1"), ("1", "nan"), ("inf", "nan"), ("nan", "inf"), ("inf", "-inf"), ("inf", "1"), ("1", "-inf")],
)
def test_inf_and_nan_must_stand_in_the_same_places(got, expected):
    good = torch.ones(2, 3, dtype=torch.float64)
    a, b = good.float(), good.clone()
    a[1, 2], b[1, 2] = float(got), float(expected)
    with pytest.raises(AssertionError, match=r"x\[1, 2\].*inf and NaN"):
        assert_matches(a, b, name="x")


def test_equal_inf_and_nan_pass_and_do_not_hide_other_errors():
    expected = torch.tensor([1.0, float("inf"), float("nan"), -float("inf")], dtype=torch.float64)
    assert_matches(expected.float(), expected)
    wrong = expected.float()
    wrong[0] = 1.1
    with pytest.raises(AssertionError, match=r"output\[0\]"):
        assert_matches(wrong, expected)


def test_the_baseline_allows_twice_its_error_and_the_promise_caps_it():
    expected = spread()
    baseline, got = expected + 1e-4, (expected + 1.9e-4).float()
    assert not compare(got, expected).passed
    assert compare(got, expected, baseline=baseline).passed
    assert not compare((expected + 2.1e-4).float(), expected, baseline=baseline).passed
    capped = compare(got, expected, baseline=baseline, limit=1e-5)
    assert not capped.passed
    assert "promise of the op" in capped.message


def test_the_message_names_tensor_place_values_bound_and_source():
    expected = torch.ones(2, 3, 4, dtype=torch.float64)
    got = expected.float()
    got[1, 0, 2] = 1.5
    with pytest.raises(AssertionError) as caught:
        assert_matches(got, expected, depth=9, name="grad_logits")
    text = str(caught.value)
    for part in (
        "grad_logits[1, 0, 2]",
        "got 1.5",
        "expected 1",
        "bound 6.56e-07",
        "4 + sqrt(9)/2 fp32 ulps",
        "1 of 24",
    ):
        assert part in text


def test_shapes_and_integers_are_compared_exactly():
    with pytest.raises(AssertionError, match=r"shape is \(2,\); expected \(3,\)"):
        assert_matches(torch.ones(2), torch.ones(3).double())
    with pytest.raises(AssertionError, match=r"output\[1\]: got 5"):
        assert_matches(torch.tensor([1, 5]), torch.tensor([1, 2]))
    assert_matches(torch.tensor([True, False]), torch.tensor([True, False]))


def test_tiny_fp16_values_may_be_off_by_half_their_smallest_step():
    expected = torch.full((8,), 1.49 * 2**-24, dtype=torch.float64)
    assert_matches(expected.half(), expected)
    assert not compare(2 * expected.half(), expected).passed


def test_same_bits_sees_one_ulp_and_the_sign_of_zero_but_no_nan_payload():
    one = torch.ones(3)
    assert same_bits(one, one.clone())
    assert not same_bits(one, torch.nextafter(one, one + 1))
    assert not same_bits(torch.zeros(1), -torch.zeros(1))
    assert same_bits(torch.tensor([float("nan")]), -torch.tensor([float("nan")]))
    assert not same_bits(one, one.double())
