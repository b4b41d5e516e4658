"""Every value of the narrow formats, and many programs' worth of random ones."""

import pytest
import torch
import triton
import triton.language as tl

from lisa_kernels.testing import same_bits
from lisa_kernels.testing.interpreter import honest_interpreter
from tests.interpreted.interpreter.test_builder import RULES, binary_kernel, clamped, fused, negate
from tests.interpreted.interpreter.test_formats import cast, equal, numbers, within_range

pytestmark = pytest.mark.prove
HALVES = [torch.bfloat16, torch.float16]
FP8 = [torch.float8_e4m3fn, torch.float8_e5m2]


def every(dtype):
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("op", [op for op in RULES if op not in (fused, negate)], ids=lambda op: op.__name__)
def test_every_half_value_against_random_ones_has_the_bits_of_torch(op, dtype):
    x, out = every(dtype), torch.zeros(2**16, dtype=dtype)
    for seed in range(8):
        y = x[torch.randperm(2**16, generator=torch.Generator().manual_seed(seed))]
        if op is clamped:
            # Of NaN bounds torch makes NaN; of two zeros either may be the larger.
            x, y = (torch.where(v.isnan() | (v == 0), 1, v) for v in (x, y))
        with honest_interpreter():
            binary_kernel[(1,)](x, y, out, op, 2**16)
        assert same_bits(out, RULES[op](x, y))


@pytest.mark.parametrize("target", [*FP8, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("source", HALVES, ids=str)
def test_every_half_value_casts_as_in_torch(source, target):
    x = within_range(every(source), target)
    with honest_interpreter():
        assert equal(cast(x, target), x.to(target))


@pytest.mark.parametrize("target", [*FP8, *HALVES], ids=str)
def test_millions_of_fp32_values_cast_as_in_torch(target):
    for seed in range(4):
        x = within_range(numbers(500_000, seed), target)
        with honest_interpreter():
            assert equal(cast(x, target), x.to(target))


@triton.jit
def round_trip_kernel(x_ptr, out_ptr, MIDDLE: tl.constexpr, N: tl.constexpr):
    offs = tl.arange(0, N)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs).to(MIDDLE).to(out_ptr.dtype.element_ty))


@pytest.mark.parametrize("middle", [tl.float32, tl.float64], ids=str)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_half_value_survives_a_wider_format(dtype, middle):
    x, out = every(dtype), torch.zeros(2**16, dtype=dtype)
    with honest_interpreter():
        round_trip_kernel[(1,)](x, out, middle, 2**16)
    assert same_bits(out, x)
