"""Read-modify-write."""

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from lisa_kernels.testing.interpreter import honest_interpreter
from tests.interpreted.stock import states_stock

HALVES = (torch.bfloat16, torch.float16)


@triton.jit
def add_kernel(out_ptr, old_ptr, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    old = tl.atomic_add(out_ptr + offs // 4, (offs + 1).to(out_ptr.dtype.element_ty), mask=offs < n)
    tl.store(old_ptr + offs, old)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64, torch.int32, torch.int64], ids=str)
def test_lanes_add_one_after_another_and_return_what_stood_there(dtype):
    out, old = torch.full((4,), 100).to(dtype), torch.zeros(16, dtype=dtype)
    with honest_interpreter():
        add_kernel[(1,)](out, old, 14, 16)
    assert out.tolist() == [110, 126, 142, 127]
    assert old.tolist()[:5] == [100, 101, 103, 106, 100]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_sums_round_after_each_addition(dtype):
    """Ones added to 1 / eps vanish one by one."""
    start = 2 / torch.finfo(dtype).eps
    out, old = torch.full((4,), start).to(dtype), torch.zeros(16, dtype=dtype)
    ones = torch.ones(16, dtype=dtype)
    with honest_interpreter():
        ones_kernel[(1,)](ones, out, 16)
    assert out[0].item() == start
    assert old.sum() == 0


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_sums_round_to_nearest(dtype):
    """Three quarters of a step above 1."""
    eps = torch.finfo(dtype).eps
    out = torch.ones(1, dtype=dtype)
    with honest_interpreter():
        ones_kernel[(1,)](torch.full((1,), 0.75 * eps, dtype=dtype), out, 1)
    assert out.item() == 1 + eps


@triton.jit
def ones_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    tl.atomic_add(out_ptr + tl.zeros((BLOCK,), tl.int32), tl.load(x_ptr + tl.arange(0, BLOCK)))


@states_stock
def test_stock_has_no_bf16_atomics():
    """Notices when Triton adds them."""
    with pytest.raises(InterpreterError):
        add_kernel[(1,)](torch.zeros(4).bfloat16(), torch.zeros(16).bfloat16(), 14, 16)
