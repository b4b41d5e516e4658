"""``tl.device_assert``, which the stock interpreter leaves out."""

from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

from lisa_kernels.testing.interpreter import DeviceAssertError, honest_interpreter
from tests.interpreted.stock import states_stock


@triton.jit
def positive_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n)
    tl.device_assert(x > 0, "x must be positive", mask=offs < n)
    tl.store(out_ptr + offs, x, mask=offs < n)


@triton.jit
def check(x):
    tl.device_assert(tl.sum(x) < 0, "sum")
    return x


@triton.jit
def nested_kernel(x_ptr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(x_ptr + offs, check(tl.load(x_ptr + offs)))


@triton.jit
def wrapping_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """A hash: its multiplication is meant to wrap around."""
    offs = tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, tl.load(x_ptr + offs) * 0x01000193)


def run(x):
    out = torch.zeros_like(x)
    with honest_interpreter():
        positive_kernel[(3,)](x, out, len(x), 4)
    return out


def test_an_assertion_that_holds_changes_nothing():
    assert run(torch.ones(10)).eq(1).all()


def test_lanes_outside_its_mask_do_not_count():
    """They hold NaN, of which nothing holds."""
    run(torch.ones(9))


def test_an_assertion_that_fails_names_message_lanes_program_and_line():
    x = torch.ones(10)
    x[6:8] = -1
    lines = Path(__file__).read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "x must be positive" in text)
    with pytest.raises(DeviceAssertError) as caught:
        run(x)
    assert str(caught.value) == (
        "tl.device_assert: 'x must be positive' fails in 2 of 4 lanes, first [2]: program (1, 0, 0) of "
        f"positive_kernel, tests/interpreted/interpreter/test_assertions.py:{line}"
    )


def test_an_assertion_in_a_device_function_fails_by_its_own_line():
    with honest_interpreter(), pytest.raises(DeviceAssertError, match=r"'sum' fails: program \(0, 0, 0\) of nested_"):
        nested_kernel[(1,)](torch.ones(4), 4)


def test_integers_that_wrap_around_are_no_failed_assertion():
    x, out = torch.full((4,), 2**30, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    with honest_interpreter():
        wrapping_kernel[(1,)](x, out, 4)
    assert out.tolist() == [-(2**30)] * 4


@states_stock
def test_the_stock_interpreter_lets_it_pass():
    x = -torch.ones(12)
    out = torch.zeros(12)
    positive_kernel[(3,)](x, out, 12, 4)
    assert torch.equal(out, x)
