"""Sums, extremes, their indices and scans, against PyTorch and fp64."""

import pytest
import torch
import triton
import triton.language as tl

from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.interpreter import NotInterpretedError, honest_interpreter
from tests.interpreted.stock import states_stock

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
ROWS, COLUMNS = 8, 64


@triton.jit
def total(x):
    return tl.sum(x, axis=1)


@triton.jit
def largest(x):
    return tl.max(x, axis=1)


@triton.jit
def smallest(x):
    return tl.min(x, axis=1)


@triton.jit
def where_largest(x):
    return tl.argmax(x, axis=1)


@triton.jit
def where_smallest(x):
    return tl.argmin(x, axis=1)


@triton.jit
def running_sum(x):
    return tl.cumsum(x, axis=1)


@triton.jit
def running_sum_back(x):
    return tl.cumsum(x, axis=1, reverse=True)


@triton.jit
def running_product(x):
    return tl.cumprod(x, axis=1)


@triton.jit
def larger_magnitude(a, b):
    return tl.where(tl.abs(a) >= tl.abs(b), a, b)


@triton.jit
def extreme(x):
    return tl.reduce(x, 1, larger_magnitude)


@triton.jit
def running_extreme(x):
    return tl.associative_scan(x, 1, larger_magnitude)


@triton.jit
def widened(a, b):
    return a.to(tl.float32) + b.to(tl.float32)


@triton.jit
def sum_of_other_dtype(x):
    return tl.reduce(x, 1, widened)


@triton.jit
def rows_kernel(x_ptr, out_ptr, OP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    out = OP(tl.load(x_ptr + rows[:, None] * COLUMNS + columns[None, :]))
    if WIDTH == 1:
        tl.store(out_ptr + rows, out.to(out_ptr.dtype.element_ty))
    else:
        tl.store(out_ptr + rows[:, None] * COLUMNS + columns[None, :], out.to(out_ptr.dtype.element_ty))


def run(op, x, dtype=None, width=1):
    out = torch.zeros((ROWS, width) if width > 1 else ROWS, dtype=dtype or x.dtype)
    rows_kernel[(1,)](x, out, op, ROWS, COLUMNS, width)
    return out


def rows(dtype):
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)


def extreme_of(x):
    return x.gather(1, x.abs().argmax(1, keepdim=True)).squeeze(1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sum_is_the_sum(dtype):
    """In half precision each addition rounds: as many roundings as the tree is deep, to the dtype's step."""
    x = rows(dtype)
    with honest_interpreter():
        got = run(total, x)
    # Six roundings of at most half a step of the largest partial sum, which the sum of magnitudes bounds.
    step = torch.finfo(dtype).eps * x.double().abs().sum(1)
    assert ((got.double() - x.double().sum(1)).abs() <= 3 * step).all()


def test_half_sums_round_after_each_addition():
    """2048 + 1 is 2048 in fp16: the fp32 accumulator of the stock sum would give 2080."""
    x = torch.ones(ROWS, COLUMNS, dtype=torch.float16)
    x[:, 0] = 4096.0
    with honest_interpreter():
        got = run(total, x)
    assert 4096 < got[0].item() < 4160
    assert torch.equal(got[0] % 4, torch.tensor(0.0).half())


@states_stock
def test_stock_bf16_sum_is_wrong():
    """Adds bits: notices when Triton mends it."""
    x = rows(torch.bfloat16)
    assert not ((run(total, x).double() - x.double().sum(1)).abs() < 1).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("op", "rule", "kind"),
    [
        (largest, lambda x: x.amax(1), None),
        (smallest, lambda x: x.amin(1), None),
        (where_largest, lambda x: x.argmax(1).int(), torch.int32),
        (where_smallest, lambda x: x.argmin(1).int(), torch.int32),
        (extreme, extreme_of, None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_extremes_and_their_indices_are_those_of_torch(op, rule, kind, dtype):
    x = rows(dtype)
    with honest_interpreter():
        assert same_bits(run(op, x, kind), rule(x))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extremes_leave_nan_out_and_rows_of_nan_are_nan(dtype):
    x = rows(dtype)
    x[2, ::3] = float("nan")
    x[5] = float("nan")
    with honest_interpreter():
        got = run(largest, x)
    assert same_bits(got, x.nan_to_num(nan=float("-inf")).amax(1).where(torch.arange(ROWS) != 5, float("nan")))


@states_stock
def test_stock_bf16_argmax_is_wrong():
    """Compares bits, so that a negative number is the largest: notices when Triton mends it."""
    x = rows(torch.bfloat16)
    assert not torch.equal(run(where_largest, x, torch.int32), x.argmax(1).int())


def test_the_index_of_an_extreme_among_nan_is_refused():
    x = rows(torch.float32)
    x[2, 3] = float("nan")
    with honest_interpreter(), pytest.raises(NotInterpretedError, match="extreme among NaN"):
        run(where_largest, x, torch.int32)


def test_a_combine_function_that_changes_the_dtype_is_refused():
    """The stock loop stores the fp32 sum as bf16 bits."""
    with honest_interpreter(), pytest.raises(NotInterpretedError, match="combining bf16 into fp32 by widened"):
        run(sum_of_other_dtype, rows(torch.bfloat16))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("op", "rule"),
    [
        (running_sum, lambda x: x.cumsum(1)),
        (running_sum_back, lambda x: x.flip(1).cumsum(1).flip(1)),
        (running_product, lambda x: x.cumprod(1)),
    ],
    ids=["sum", "reversed sum", "product"],
)
def test_scans_accumulate_values(op, rule, dtype):
    """Integers of small size: exact in every dtype whatever the order."""
    x = torch.randint(-1, 2, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(0)).double()
    x = torch.where(x == 0, torch.ones_like(x), x).to(dtype) if op is running_product else x.to(dtype)
    with honest_interpreter():
        assert_matches(run(op, x, width=COLUMNS), rule(x.double()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scans_take_any_function(dtype):
    x = rows(dtype)
    expected = torch.stack([extreme_of(x[:, : i + 1]) for i in range(COLUMNS)], dim=1)
    with honest_interpreter():
        assert same_bits(run(running_extreme, x, width=COLUMNS), expected)
