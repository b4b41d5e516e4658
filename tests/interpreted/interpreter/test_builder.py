"""Arithmetic, comparisons, selection and memory in half precision, against PyTorch."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError
from triton.tools.tensor_descriptor import TensorDescriptor

from lisa_kernels.testing import same_bits
from lisa_kernels.testing.interpreter import NotInterpretedError, honest_interpreter
from lisa_kernels.testing.interpreter.formats import encode, odd_sum
from tests.interpreted.stock import states_stock

HALVES = (torch.bfloat16, torch.float16)
N = 512


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def subtract(x, y):
    return x - y


@triton.jit
def multiply(x, y):
    return x * y


@triton.jit
def divide(x, y):
    return x / y


@triton.jit
def remainder(x, y):
    return x % y


@triton.jit
def larger(x, y):
    return tl.maximum(x, y)


@triton.jit
def smaller(x, y):
    return tl.minimum(x, y)


@triton.jit
def negate(x, y):
    return -x


@triton.jit
def magnitude(x, y):
    return tl.abs(x)


@triton.jit
def fused(x, y):
    return tl.fma(x, y, x)


@triton.jit
def selected(x, y):
    return tl.where(x < y, x, y * y)


@triton.jit
def clamped(x, y):
    return tl.clamp(x, tl.minimum(y, 0.0), tl.maximum(y, 0.0))


@triton.jit
def compared(x, y):
    return (x < y).to(tl.float32) + 2 * (x == y) + 4 * (x >= y) + 8 * (x != x)


@triton.jit
def binary_kernel(x_ptr, y_ptr, out_ptr, OP: tl.constexpr, N: tl.constexpr):
    offs = tl.arange(0, N)
    out = OP(tl.load(x_ptr + offs), tl.load(y_ptr + offs))
    tl.store(out_ptr + offs, out.to(out_ptr.dtype.element_ty))


def run(op, x, y, dtype=None):
    out = torch.zeros(x.shape, dtype=dtype or x.dtype)
    binary_kernel[(1,)](x, y, out, op, x.numel())
    return out


def operands(dtype):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, generator=generator) * 2.0 ** torch.randint(-6, 7, (N,), generator=generator)
    y = torch.randn(N, generator=generator) * 2.0 ** torch.randint(-6, 7, (N,), generator=generator)
    y[::7] = x[::7]
    x[3], y[5], x[11], y[13] = float("inf"), float("-inf"), 0.0, 3e38
    return x.to(dtype), y.to(dtype)


RULES = {
    add: torch.add,
    subtract: torch.sub,
    multiply: torch.mul,
    divide: torch.div,
    negate: lambda x, y: -x,
    magnitude: lambda x, y: x.abs(),
    selected: lambda x, y: torch.where(x < y, x, y * y),
    fused: lambda x, y: (x.double() * y.double() + x.double()).float().to(x.dtype),
    clamped: lambda x, y: x.clamp(y.clamp(max=0), y.clamp(min=0)),
}


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("op", RULES, ids=lambda op: op.__name__)
def test_each_operation_has_the_bits_of_torch(op, dtype):
    x, y = operands(dtype)
    if op is negate:
        # Triton before 3.8 compiles 0 - x, which turns 0 into 0.
        x = torch.where(x == 0, y, x)
    with honest_interpreter():
        assert same_bits(run(op, x, y), RULES[op](x, y))


@states_stock
@pytest.mark.parametrize("op", [add, multiply, negate, selected], ids=lambda op: op.__name__)
def test_stock_bf16_arithmetic_is_wrong(op):
    """Notices when Triton mends it."""
    x, y = operands(torch.bfloat16)
    assert not same_bits(run(op, x, y), RULES[op](x, y))


@states_stock
def test_stock_cannot_cast_a_comparison_of_bf16():
    """Notices when Triton mends it."""
    with pytest.raises(InterpreterError, match="cannot reshape"):
        run(compared, *operands(torch.bfloat16))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
def test_comparisons_treat_nan_as_unordered(dtype):
    x, y = operands(dtype)
    x[::5] = float("nan")
    with honest_interpreter():
        got = run(compared, x, y, torch.float32)
    assert torch.equal(got, (x < y).float() + 2 * (x == y) + 4 * (x >= y) + 8 * (x != x))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
def test_extremes_ignore_nan(dtype):
    """``tl.maximum`` and ``tl.minimum`` by default: PTX ``max`` and ``min`` return the operand that is a number."""
    x, y = operands(dtype)
    x[::5] = float("nan")
    with honest_interpreter():
        assert same_bits(run(larger, x, y), torch.fmax(x, y))
        assert same_bits(run(smaller, x, y), torch.fmin(x, y))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_remainder_is_that_of_c(dtype):
    x, y = operands(dtype)
    with honest_interpreter():
        assert same_bits(run(remainder, x, y), torch.fmod(x.float(), y.float()).to(dtype))


def test_arithmetic_on_fp8_is_refused():
    x = torch.ones(N).to(torch.float8_e4m3fn)
    with honest_interpreter(), pytest.raises(NotInterpretedError, match="arithmetic on fp8e4nv"):
        run(add, x, x)


@pytest.mark.parametrize(
    ("dtype", "eps"), [(torch.float32, 2.0**-23), (torch.float16, 2.0**-10), (torch.bfloat16, 2.0**-7)]
)
def test_fma_rounds_once(dtype, eps):
    """(1 + eps)(1 - eps) - 1 = -eps**2, which rounding the product first would lose."""
    x, y = torch.full((2,), 1 + eps, dtype=dtype), torch.full((2,), 1 - eps, dtype=dtype)
    out = torch.zeros(2, dtype=torch.float32)
    with honest_interpreter():
        fma_kernel[(1,)](x, y, torch.full((2,), -1.0, dtype=dtype), out)
    assert out.tolist() == [-(eps**2)] * 2


def test_fma_of_a_tie_follows_what_lies_below_fp64():
    """2**-45 squared beside 1 + 2**-24 is below fp64; but it decides to which side the tie of fp32 goes."""
    tie = torch.tensor([2.0**-24 * (2**24 + 1), 2.0**-24 * (2**24 + 1)], dtype=torch.float64)
    product = np.array([2.0**-90, -(2.0**-90)])
    assert encode(odd_sum(tie.numpy(), product), tl.float32).tolist() == [1 + 2.0**-23, 1.0]


@triton.jit
def fma_kernel(x_ptr, y_ptr, z_ptr, out_ptr):
    offs = tl.arange(0, 2)
    tl.store(out_ptr + offs, tl.fma(tl.load(x_ptr + offs), tl.load(y_ptr + offs), tl.load(z_ptr + offs)))


@triton.jit
def absorb_kernel(out_ptr, small):
    tl.store(out_ptr, small + 1e8 - 1e8)


def test_a_float_argument_is_an_fp32_scalar():
    out, stock = torch.ones(1), torch.ones(1)
    absorb_kernel[(1,)](stock, 0.125)
    with honest_interpreter():
        absorb_kernel[(1,)](out, 0.125)
    assert (stock.item(), out.item()) == (0.125, 0.0)


@triton.jit
def order_kernel(x_ptr, out_ptr, K: tl.constexpr):
    offs = tl.arange(0, K)
    tl.store(out_ptr + offs, tl.sort(tl.load(x_ptr + offs), descending=True))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_sort_orders_by_value(dtype):
    x = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.zeros_like(x)
    with honest_interpreter():
        order_kernel[(1,)](x, out, 64)
    assert same_bits(out, x.sort(descending=True).values)


@triton.jit
def descriptor_kernel(source, target, BLOCK: tl.constexpr):
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    target.store([row, column], source.load([row, column]) * 2)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("padding", ["zero", "nan"])
def test_descriptors_pad_what_lies_outside(dtype, padding):
    x = torch.randn(40, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.zeros(48, 64, dtype=dtype)
    source = TensorDescriptor(x, [40, 48], [48, 1], [16, 16], padding=padding)
    with honest_interpreter():
        descriptor_kernel[(3, 4)](source, TensorDescriptor.from_tensor(out, [16, 16]), 16)
    expected = torch.full((48, 64), float("nan") if padding == "nan" else 0.0, dtype=dtype)
    expected[:40, :48] = x * 2
    assert same_bits(out, expected)
