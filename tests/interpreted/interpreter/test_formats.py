"""Casts: bit for bit those of PyTorch, which round to nearest even."""

import pytest
import torch
import triton
import triton.language as tl

from lisa_kernels.testing import same_bits
from lisa_kernels.testing.interpreter import honest_interpreter
from tests.interpreted.stock import needs_fnuz, states_stock

BLOCK = 1024
FNUZ = [pytest.param(dtype, marks=needs_fnuz) for dtype in (torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)]
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2, *FNUZ)
NARROW = (torch.float16, torch.bfloat16, *FP8)
WIDE = (torch.float32, torch.float64)


@triton.jit
def cast_kernel(x_ptr, out_ptr, n, ROUNDING: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n)
    tl.store(out_ptr + offs, x.to(out_ptr.dtype.element_ty, fp_downcast_rounding=ROUNDING), mask=offs < n)


def cast(x, dtype, rounding=None):
    out = torch.zeros(x.shape, dtype=dtype)
    cast_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, out, x.numel(), rounding, BLOCK)
    return out


def numbers(count=20_000, seed=0):
    """fp32 of every exponent, ties and subnormals of every narrow format, both zeros, infinities, NaN."""
    generator = torch.Generator().manual_seed(seed)
    anything = torch.randint(-(2**31), 2**31, (count,), generator=generator).int().view(torch.float32)
    near = torch.randn(count, generator=generator) * 2.0 ** torch.randint(-24, 17, (count,), generator=generator)
    ties = [1 + 2.0**-k for k in range(1, 13)] + [1 + 3 * 2.0**-k for k in range(2, 13)]
    small = [m * 2.0**-k for m in (1, 1.5, 2.5) for k in range(5, 151)]
    special = torch.tensor([*ties, *small, 0.0, -0.0, float("inf"), float("-inf"), float("nan"), 448, 464, 57344])
    return torch.cat([anything, near, special, -special])


def equal(a, b):
    """Same bits; all NaN count as equal."""
    if a.dtype.itemsize > 1:
        return same_bits(a, b)
    bits = a.view(torch.uint8) == b.view(torch.uint8)
    return bool((bits | (a.float().isnan() & b.float().isnan())).all())


def within_range(x, dtype):
    """PyTorch overflows to NaN or infinity where ``cvt.satfinite`` saturates."""
    return x[(x.abs() <= torch.finfo(dtype).max) | x.isnan()] if dtype.itemsize == 1 else x


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_fp32_rounds_to_nearest_even_as_torch_does(dtype):
    x = within_range(numbers(), dtype)
    with honest_interpreter():
        assert equal(cast(x, dtype), x.to(dtype))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("wide", [torch.float16, torch.bfloat16, *WIDE], ids=str)
def test_every_value_of_a_narrow_format_widens_exactly(dtype, wide):
    codes = torch.arange(2**16, dtype=torch.int32).to(torch.int16) if dtype.itemsize == 2 else torch.arange(256).byte()
    x = codes.view(dtype)
    with honest_interpreter():
        assert equal(cast(x, wide), x.to(wide))


@states_stock
def test_stock_truncates_to_bf16():
    """Notices when Triton mends it."""
    x = numbers()
    wrong = cast(x, torch.bfloat16).float() != x.bfloat16().float()
    assert (wrong & x.isfinite()).float().mean() > 0.2


@pytest.mark.parametrize("dtype", FP8, ids=str)
def test_fp8_saturates_and_keeps_nan(dtype):
    largest = torch.finfo(dtype).max
    x = torch.tensor([largest * 1.01, largest * 100, float("inf"), float("nan")])
    x = torch.cat([x, -x])
    with honest_interpreter():
        got = cast(x, dtype).float()
    assert got[:3].tolist() == [largest] * 3
    assert got[4:7].tolist() == [-largest] * 3
    assert got[[3, 7]].isnan().all()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_rtz_never_grows_and_is_the_nearest_such_value(dtype):
    x = numbers()
    x = within_range(x[x.isfinite()], dtype)
    with honest_interpreter():
        got = cast(x, dtype, "rtz")
    assert (got.double().abs() <= x.double().abs()).all()
    # The next value away from zero is beyond x; the largest has none.
    bits = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    beyond = (got.view(bits) + 1).view(dtype).double().abs()
    assert ((beyond > x.double().abs()) | ~beyond.isfinite() | (got.double().abs() == torch.finfo(dtype).max)).all()


def test_fp64_to_bf16_rounds_once():
    """A tie of bf16 that fp32 would create: 1 + 2**-8 + 2**-40 is above it and must round up."""
    x = torch.tensor([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 3 * 2**-8 - 2**-40], dtype=torch.float64)
    with honest_interpreter():
        assert cast(x, torch.bfloat16).tolist() == [1 + 2**-7, 1.0, 1 + 2**-7]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_integers_become_floats_as_in_torch(dtype):
    x = torch.randint(-(2**31), 2**31, (4000,), generator=torch.Generator().manual_seed(0)).int()
    x = torch.cat([x, x >> 16, x >> 24])
    with honest_interpreter():
        assert equal(cast(x, dtype), x.to(dtype))


@pytest.mark.parametrize("source", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64], ids=str)
def test_floats_become_integers_truncated_and_saturated(source, dtype):
    limits = torch.iinfo(dtype)
    x = torch.tensor([0.0, 0.9, -0.9, 1.5, -1.5, 100, -100, 6e4, -6e4, float("inf"), float("-inf"), float("nan")])
    x = x.to(source)
    exact = [
        0 if v != v else max(limits.min, min(limits.max, int(max(min(v, 2.0**70), -(2.0**70))))) for v in x.tolist()
    ]
    with honest_interpreter():
        assert cast(x, dtype).tolist() == exact


def test_bf16_constants_are_rounded():
    with honest_interpreter() as builder:
        assert builder.get_bf16(1 + 3 * 2**-8).data.tolist() == [torch.tensor(1 + 2**-6).bfloat16().view(torch.int16)]
