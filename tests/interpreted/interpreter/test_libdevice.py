"""libdevice, which returns None in the stock interpreter."""

import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.language.extra.cuda.libdevice import tanh as cuda_tanh
from triton.language.extra.hip import libdevice as hip_libdevice
from triton.language.extra.libdevice import erf as imported_erf

from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.interpreter import NotInterpretedError, honest_interpreter
from tests.interpreted.stock import states_stock

UNARY = {
    libdevice.tanh: torch.tanh, libdevice.log1p: torch.log1p, libdevice.rsqrt: torch.rsqrt,
    libdevice.expm1: torch.expm1, libdevice.cbrt: lambda x: x.sign() * x.abs() ** (1 / 3),
    libdevice.rint: torch.round, libdevice.erfinv: torch.erfinv, libdevice.lgamma: torch.lgamma,
    libdevice.exp10: lambda x: 10**x, libdevice.normcdf: torch.special.ndtr, libdevice.fast_expf: torch.exp,
}  # fmt: skip
NAMES = {function.__name__: rule for function, rule in UNARY.items()}


@triton.jit
def unary_kernel(x_ptr, out_ptr, NAME: tl.constexpr, N: tl.constexpr):
    offs = tl.arange(0, N)
    x = tl.load(x_ptr + offs)
    if NAME == "tanh":
        out = libdevice.tanh(x)
    elif NAME == "log1p":
        out = libdevice.log1p(x)
    elif NAME == "rsqrt":
        out = libdevice.rsqrt(x)
    elif NAME == "expm1":
        out = libdevice.expm1(x)
    elif NAME == "cbrt":
        out = libdevice.cbrt(x)
    elif NAME == "rint":
        out = libdevice.rint(x)
    elif NAME == "erfinv":
        out = libdevice.erfinv(x)
    elif NAME == "lgamma":
        out = libdevice.lgamma(x)
    elif NAME == "exp10":
        out = libdevice.exp10(x)
    elif NAME == "normcdf":
        out = libdevice.normcdf(x)
    else:
        out = libdevice.fast_expf(x)
    tl.store(out_ptr + offs, out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_functions_of_one_argument_equal_torch(name, dtype):
    x = torch.linspace(0.01, 0.99, 64, dtype=torch.float64).to(dtype)
    out = torch.zeros_like(x)
    with honest_interpreter():
        unary_kernel[(1,)](x, out, name, 64)
    assert_matches(out, NAMES[name](x.double()))


@triton.jit
def binary_kernel(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
    offs = tl.arange(0, N)
    x, y = tl.load(x_ptr + offs), tl.load(y_ptr + offs)
    tl.store(out_ptr + offs, libdevice.remainder(x, y))
    tl.store(out_ptr + N + offs, libdevice.fmod(x, y))
    tl.store(out_ptr + 2 * N + offs, libdevice.pow(x, 2.0))
    tl.store(out_ptr + 3 * N + offs, libdevice.round(x))
    tl.store(out_ptr + 4 * N + offs, libdevice.copysign(x, y))


def test_remainder_is_that_of_ieee_and_round_goes_away_from_zero():
    x, y = torch.tensor([5.5, -5.5, 2.5, -0.5]), torch.tensor([3.0, 3.0, -2.0, 4.0])
    out = torch.zeros(5, 4)
    with honest_interpreter():
        binary_kernel[(1,)](x, y, out, 4)
    expected = [
        [-0.5, 0.5, 0.5, -0.5],
        [2.5, -2.5, 0.5, -0.5],
        [30.25, 30.25, 6.25, 0.25],
        [6, -6, 3, -1],
        [5.5, 5.5, -2.5, 0.5],
    ]
    assert out.tolist() == expected


@triton.jit
def bits_kernel(x_ptr, out_ptr, N: tl.constexpr):
    offs = tl.arange(0, N)
    x = tl.load(x_ptr + offs)
    tl.store(out_ptr + offs, libdevice.popc(x))
    tl.store(out_ptr + N + offs, libdevice.clz(x))
    tl.store(out_ptr + 2 * N + offs, libdevice.ffs(x))
    as_float = libdevice.int_as_float(x)
    tl.store(out_ptr + 3 * N + offs, libdevice.float_as_int(as_float))
    tl.store(out_ptr + 4 * N + offs, libdevice.isnan(as_float))


def test_functions_of_bits():
    x = torch.tensor([0, 1, -1, 0x7FC00000], dtype=torch.int32)
    out = torch.zeros(5, 4, dtype=torch.int32)
    with honest_interpreter():
        bits_kernel[(1,)](x, out, 4)
    assert out.tolist() == [[0, 1, 32, 9], [32, 31, 0, 1], [0, 1, 1, 23], x.tolist(), [0, 0, 1, 1]]


@triton.jit
def imported_kernel(x_ptr, out_ptr, N: tl.constexpr):
    offs = tl.arange(0, N)
    tl.store(out_ptr + offs, imported_erf(tl.load(x_ptr + offs)))


def test_functions_imported_by_name_work_too():
    x = torch.linspace(-2, 2, 64)
    out, before = torch.zeros(64), imported_erf
    with honest_interpreter():
        imported_kernel[(1,)](x, out, 64)
    assert_matches(out, x.double().erf())
    assert imported_erf is before
    assert imported_erf(x) is None


def test_half_precision_is_refused_as_on_a_gpu():
    with honest_interpreter(), pytest.raises(NotInterpretedError, match=r"libdevice\.tanh of bf16"):
        unary_kernel[(1,)](torch.zeros(64).bfloat16(), torch.zeros(64), "tanh", 64)


@triton.jit
def exotic_kernel(x_ptr):
    tl.store(x_ptr, libdevice.byte_perm(tl.load(x_ptr), 1, 2))


def test_what_is_not_known_is_refused():
    with honest_interpreter(), pytest.raises(NotInterpretedError, match=r"libdevice\.byte_perm"):
        exotic_kernel[(1,)](torch.zeros(1, dtype=torch.int32))


@states_stock
def test_stock_libdevice_returns_none():
    """Notices when Triton mends it."""
    assert libdevice.tanh(torch.zeros(1)) is None
    with honest_interpreter():
        assert libdevice.tanh is not None
    assert same_bits(torch.zeros(1), torch.zeros(1))
    assert libdevice.tanh(torch.zeros(1)) is None


@triton.jit
def cuda_kernel(x_ptr, out_ptr, NAME: tl.constexpr, N: tl.constexpr):
    offs = tl.arange(0, N)
    x = tl.load(x_ptr + offs)
    if NAME == "module":
        out = cuda_libdevice.tanh(x)
    elif NAME == "attribute":
        out = tl.extra.cuda.libdevice.tanh(x)
    elif NAME == "function":
        out = cuda_tanh(x)
    else:
        out = hip_libdevice.tanh(x)
    tl.store(out_ptr + offs, out)


@pytest.mark.parametrize("name", ["module", "attribute", "function", "hip"])
def test_the_functions_of_compiled_code_are_interpreted_too(name):
    x = torch.linspace(-2, 2, 64)
    out, before = torch.zeros(64), (cuda_libdevice.tanh, hip_libdevice.tanh, cuda_tanh)
    with honest_interpreter():
        cuda_kernel[(1,)](x, out, name, 64)
    assert_matches(out, x.double().tanh())
    assert (cuda_libdevice.tanh, hip_libdevice.tanh, cuda_tanh) == before
