"""Lanes of a load that are masked off hold what the kernel says, and poison where it says nothing."""

import pytest
import torch
import triton
import triton.language as tl

from lisa_kernels.testing.interpreter import NotInterpretedError, honest_interpreter
from tests.interpreted.stock import states_stock

N, BLOCK = 5, 8
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
INTEGERS = (torch.int8, torch.int32, torch.int64, torch.uint8)


@triton.jit
def widen_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Stores all lanes, also those that were masked off when they were loaded."""
    offs = tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n).to(out_ptr.dtype.element_ty))


@triton.jit
def filled_kernel(x_ptr, out_ptr, n, OTHER: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=offs < n, other=OTHER).to(tl.float32))


@triton.jit
def sum_kernel(x_ptr, out_ptr, n, FILLED: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n, other=0.0) if FILLED else tl.load(x_ptr + offs, mask=offs < n)
    tl.store(out_ptr, tl.sum(x))


@triton.jit
def scalar_kernel(x_ptr, out_ptr, n):
    tl.store(out_ptr, tl.load(x_ptr, mask=n > 0))


@triton.jit
def select_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """The lanes that are off are replaced before anything is made of them."""
    offs = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n)
    tl.store(out_ptr, tl.sum(tl.where(offs < n, x, 0.0)))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_lanes_that_are_off_hold_nan_where_no_other_is_given(dtype):
    out = torch.zeros(BLOCK)
    with honest_interpreter():
        widen_kernel[(1,)](torch.ones(N).to(dtype), out, N, BLOCK)
    assert out[:N].eq(1).all()
    assert out[N:].isnan().all()


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_hold_their_largest_value_there(dtype):
    out = torch.zeros(BLOCK, dtype=torch.int64)
    with honest_interpreter():
        widen_kernel[(1,)](torch.ones(N, dtype=dtype), out, N, BLOCK)
    assert out.tolist() == [1] * N + [torch.iinfo(dtype).max] * (BLOCK - N)


def test_booleans_hold_true_there():
    out = torch.zeros(BLOCK, dtype=torch.int64)
    with honest_interpreter():
        widen_kernel[(1,)](torch.zeros(N, dtype=torch.bool), out, N, BLOCK)
    assert out.tolist() == [0] * N + [1] * (BLOCK - N)


def test_a_scalar_load_that_is_off_is_poison_and_one_that_is_on_is_not():
    out = torch.zeros(1)
    for n, is_poison in ((0, True), (1, False)):
        with honest_interpreter():
            scalar_kernel[(1,)](torch.ones(1), out, n)
        assert bool(out.isnan()) == is_poison


def test_a_sum_over_lanes_that_are_off_shows_and_one_with_an_other_is_right():
    x, out = torch.ones(N), torch.zeros(1)
    with honest_interpreter():
        sum_kernel[(1,)](x, out, N, True, BLOCK)
        assert out.item() == N
        sum_kernel[(1,)](x, out, N, False, BLOCK)
    assert out.isnan()


def test_lanes_that_are_off_do_no_harm_where_nothing_is_made_of_them():
    out = torch.zeros(1)
    with honest_interpreter():
        select_kernel[(1,)](torch.ones(N), out, N, BLOCK)
    assert out.item() == N


@states_stock
def test_the_stock_interpreter_has_zero_there():
    out = torch.ones(BLOCK)
    widen_kernel[(1,)](torch.ones(N), out, N, BLOCK)
    assert out.tolist() == [1] * N + [0] * (BLOCK - N)


@pytest.mark.parametrize("dtype", FLOATS[-2:], ids=str)
def test_an_fp8_load_takes_a_floating_point_other(dtype):
    out = torch.zeros(BLOCK)
    with honest_interpreter():
        filled_kernel[(1,)](torch.ones(N).to(dtype), out, N, 2.0, BLOCK)
    assert out.tolist() == [1] * N + [2] * (BLOCK - N)


def test_an_integer_other_of_an_fp8_load_is_refused_in_one_line_as_the_compiler_refuses_it():
    """Triton has no cast from integers to fp8; its own message holds the tensor."""
    expected = r"the cast to fp8e4nv in .*test_masked_loads\.py:\d+ is not interpreted\. .* or write 0\.0\.$"
    with honest_interpreter(), pytest.raises(NotInterpretedError, match=expected):
        filled_kernel[(1,)](torch.ones(N).to(torch.float8_e4m3fn), torch.zeros(BLOCK), N, 0, BLOCK)
