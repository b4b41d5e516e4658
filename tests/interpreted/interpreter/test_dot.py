"""Products of tiles of every dtype and precision, against fp64."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from lisa_kernels.testing import assert_matches, compare
from lisa_kernels.testing.interpreter import honest_interpreter
from lisa_kernels.testing.interpreter.dot import e8m0_values
from tests.interpreted.stock import needs_scaled_dot, states_stock

SIZE = 64


@triton.jit
def dot_kernel(a_ptr, b_ptr, out_ptr, SIZE: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr):
    rows = tl.arange(0, SIZE)
    offs = rows[:, None] * SIZE + rows[None, :]
    acc = tl.zeros((SIZE, SIZE), ACC) + 1
    out = tl.dot(tl.load(a_ptr + offs), tl.load(b_ptr + offs), acc, input_precision=PRECISION, out_dtype=ACC)
    tl.store(out_ptr + offs, out)


def random(dtype, seed):
    x = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return (x * 40).to(dtype) if dtype == torch.int8 else x.to(dtype)


def product(a, b, precision="ieee", acc=tl.float32, dtype=torch.float32):
    out = torch.zeros(SIZE, SIZE, dtype=dtype)
    dot_kernel[(1,)](a, b, out, SIZE, precision, acc)
    return out


FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_dot_is_the_fp32_product_of_the_operands(dtype):
    a, b = random(dtype, 0), random(dtype, 1)
    with honest_interpreter():
        assert_matches(product(a, b), a.double() @ b.double() + 1, depth=SIZE)


@states_stock
def test_stock_bf16_dot_is_wrong():
    """Multiplies bits: notices when Triton mends it."""
    a, b = random(torch.bfloat16, 0), random(torch.bfloat16, 1)
    assert compare(product(a, b), a.double() @ b.double() + 1, depth=SIZE).error > 1e5


def test_int8_dot_is_exact():
    a, b = random(torch.int8, 0), random(torch.int8, 1)
    with honest_interpreter():
        got = product(a, b, acc=tl.int32, dtype=torch.int32)
    assert torch.equal(got, (a.long() @ b.long() + 1).int())


def test_fp64_dot_is_fp64():
    a, b = random(torch.float64, 0), random(torch.float64, 1)
    with honest_interpreter():
        assert_matches(product(a, b, acc=tl.float64, dtype=torch.float64), a @ b + 1, depth=SIZE)


def test_fp16_accumulator_is_rounded_to_fp16():
    a, b = random(torch.float16, 0), random(torch.float16, 1)
    with honest_interpreter():
        got = product(a, b, acc=tl.float16, dtype=torch.float16)
    assert_matches(got, a.double() @ b.double() + 1, depth=SIZE)


def test_tf32_drops_13_bits_of_each_operand():
    """What the tensor cores do with the fp32 registers that Triton hands them (sm_80: no cvt before the mma)."""
    a, b = random(torch.float32, 0), random(torch.float32, 1)
    cut = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32).double() for x in (a, b)]
    with honest_interpreter():
        assert_matches(product(a, b, "tf32"), cut[0] @ cut[1] + 1, depth=SIZE)


@states_stock
def test_stock_computes_tf32_in_full_fp32():
    """Notices when Triton rounds it."""
    a, b = random(torch.float32, 0), random(torch.float32, 1)
    assert compare(product(a, b, "tf32"), a.double() @ b.double() + 1, depth=SIZE).passed


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("bf16x3", 1e-7, 5e-5), ("tf32x3", 0, 1e-6), ("bf16x6", 0, 1e-6)]
)
def test_split_products_are_as_good_as_their_parts(precision, least, most):
    """16 bits of bf16x3 fall short of fp32; the 22 of tf32x3 and 24 of bf16x6 do not."""
    a, b = random(torch.float32, 0), random(torch.float32, 1)
    with honest_interpreter():
        error = compare(product(a, b, precision), a.double() @ b.double() + 1, depth=SIZE).error
    assert least < error < most


@states_stock
def test_stock_refuses_bf16x3():
    a = random(torch.float32, 0)
    with pytest.raises(Exception, match="input_precision must be one of"):
        product(a, a, "bf16x3")


@pytest.mark.parametrize("precision", ["tf32x3", "bf16x3", "bf16x6"])
def test_split_products_keep_infinities(precision):
    a, b = random(torch.float32, 0), torch.eye(SIZE) * 2
    a[0, :] = 1.0
    a[0, 0] = float("inf")
    with honest_interpreter():
        assert product(a, b, precision)[0, 0] == float("inf")


@triton.jit
def scaled_kernel(
    a_ptr, a_scale_ptr, b_ptr, out_ptr, A_FORMAT: tl.constexpr, B_FORMAT: tl.constexpr, PACK: tl.constexpr
):
    rows, depth, packed = tl.arange(0, 32), tl.arange(0, 64), tl.arange(0, 64 // PACK)
    a = tl.load(a_ptr + rows[:, None] * (64 // PACK) + packed[None, :])
    scale = tl.load(a_scale_ptr + rows[:, None] * 2 + tl.arange(0, 2)[None, :])
    b = tl.load(b_ptr + depth[:, None] * 32 + rows[None, :])
    out = tl.dot_scaled(a, scale, A_FORMAT, b, None, B_FORMAT)
    tl.store(out_ptr + rows[:, None] * 32 + rows[None, :], out)


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64)


@needs_scaled_dot
@pytest.mark.parametrize("kind", ["e4m3", "e5m2", "e2m1"])
def test_scaled_dot_multiplies_blocks_of_32_by_their_power_of_two(kind):
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-9, 9, (32, 2), generator=generator)
    if kind == "e2m1":
        codes = torch.randint(0, 256, (32, 32), generator=generator).byte()
        values = torch.stack([E2M1[(codes & 15).long()], E2M1[(codes >> 4).long()]], dim=-1).reshape(32, 64)
        a = codes
    else:
        dtype = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}[kind]
        a = torch.randn(32, 64, generator=generator).to(dtype)
        values = a.double()
    # bf16 reaches beyond fp16: the stock interpreter decodes it through fp16.
    b = (torch.randn(64, 32, generator=generator) * 2.0**40).bfloat16()
    out = torch.zeros(32, 32)
    with honest_interpreter():
        scaled_kernel[(1,)](a, (exponents + 127).byte(), b, out, kind, "bf16", 2 if kind == "e2m1" else 1)
    expected = (values * 2.0 ** exponents.double().repeat_interleave(32, dim=1)) @ b.double()
    assert_matches(out, expected, depth=64)


def test_the_scale_255_is_nan():
    assert np.isnan(e8m0_values(np.array([255], dtype=np.uint8)))[0]
    assert e8m0_values(np.array([0, 127, 254], dtype=np.uint8)).tolist() == [2.0**-127, 1.0, 2.0**127]
