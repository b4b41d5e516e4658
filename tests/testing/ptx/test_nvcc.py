"""CUDA C++ through nvcc: values, and faults planted by leaving out a line."""

import pathlib

import pytest
import torch

from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.cuda import compile_ptx
from lisa_kernels.testing.cuda.compiler import why_no_nvcc
from lisa_kernels.testing.ptx import Module, PtxError

if why_no_nvcc():
    pytest.skip(f"needs nvcc: {why_no_nvcc()}", allow_module_level=True)

SOURCE = pathlib.Path(__file__).with_name("kernels.cu")


@pytest.fixture(scope="module", params=["sm_80", "sm_90"])
def cuda(request):
    """The kernels' module for one target."""
    return Module(compile_ptx(SOURCE, request.param))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def spoilt(option):
    """The module for sm_80 with a line left out."""
    return Module(compile_ptx(SOURCE, "sm_80", options=[f"-D{option}"]))


def fault(module, *args, **options):
    with pytest.raises(PtxError) as caught:
        module.launch(*args, **options)
    return caught.value


@pytest.mark.parametrize("order", [None, 1])
def test_the_last_block_sums_what_the_others_left(cuda, order):
    x, partial, out = torch.rand(5000), torch.zeros(6), torch.zeros(1)
    cuda.launch("last_block_sum", (6,), (128,), [x, partial, out, 5000], block_order=order)
    assert_matches(out, x.double().sum().reshape(1), depth=5000)


def test_without_the_memory_fence_the_partial_sums_race():
    args = ["last_block_sum", (6,), (128,), [torch.rand(5000), torch.zeros(6), torch.zeros(1), 5000]]
    assert fault(spoilt("WITHOUT_FENCE"), *args).kind == "global race"


def test_histogram_by_shared_and_global_atomics(cuda):
    x, counts = torch.randint(0, 256, (3000,), dtype=torch.uint8), torch.zeros(256, dtype=torch.int32)
    cuda.launch("histogram", (3,), (256,), [x, counts, 3000])
    assert torch.equal(counts.long(), x.long().bincount(minlength=256))


def test_half_precision(cuda):
    x = torch.randn(100).bfloat16()
    out, doubled = torch.zeros(100, dtype=torch.half), torch.zeros(100, dtype=torch.bfloat16)
    cuda.launch("halves", (2,), (64,), [x, out, doubled, 100])
    assert torch.equal(out, (x.half().double() * 2 + 0.5).half())
    assert torch.equal(doubled, x + x)


def test_local_arrays_and_constant_memory(cuda):
    order, out = torch.randint(0, 8, (64,), dtype=torch.int32), torch.zeros(64)
    cuda.launch("local_array", (1,), (64,), [order, out])
    assert torch.equal(out, 1.5 ** order.float() * torch.tensor([1, 0.5, 0.25, 0.125]).repeat(16))


def test_64_bit_integers_through_a_function_that_is_not_inlined(cuda):
    a = torch.randint(-(2**62), 2**62, (64,))
    b = torch.randint(1, 2**40, (64,)) * torch.randint(0, 2, (64,)).mul(2).sub(1)
    out = torch.zeros_like(a)
    cuda.launch("integers", (1,), (64,), [a, b, out])
    for i, (x, y, z) in enumerate(zip(a.tolist(), b.tolist(), out.tolist(), strict=True)):
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        expected = quotient + (x - quotient * y) + bin(x & (2**64 - 1)).count("1") + (x * y >> 64) + [7, 11, 13][i % 3]
        expected += 64 - (y & (2**64 - 1)).bit_length()
        assert (z - expected) % 2**64 == 0


def test_elementary_functions(cuda):
    x, out, wide = torch.rand(128), torch.zeros(128), torch.zeros(128, dtype=torch.float64)
    cuda.launch("functions", (1,), (128,), [x, out, wide])
    y, z = x.double(), (x * 1e8).double()
    assert_matches(out, z.sin() + y.exp() + (y + 1).log() + y**2.5 + y.erf() + y.tanh(), depth=64)
    assert_matches(wide, y.exp() / (y + 1).sqrt(), depth=64)


@pytest.mark.parametrize("schedule", ["lockstep", 1])
def test_asynchronous_copies(cuda, schedule):
    x, out = torch.randn(64, 4), torch.zeros(64, 4)
    cuda.launch("copies", (1,), (64,), [x, out], shared_bytes=1024, schedule=schedule)
    assert torch.equal(out, x.flip(0))


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        ("WITHOUT_WAIT", {"unfinished cp.async"}),
        ("WITHOUT_BARRIER", {"shared race", "unfinished cp.async", "uninitialised"}),
    ],
)
@pytest.mark.parametrize("schedule", ["lockstep", 1])
def test_a_missing_wait_or_syncthreads_is_reported_with_its_line(option, kinds, schedule):
    args = ["copies", (1,), (64,), [torch.randn(64, 4), torch.zeros(64, 4)]]
    caught = fault(spoilt(option), *args, shared_bytes=1024, schedule=schedule)
    assert caught.kind in kinds
    path, line = caught.source.rsplit(":", 1)
    assert path.endswith(".cu")
    assert "staged[blockDim.x - 1 - threadIdx.x]" in SOURCE.read_text().splitlines()[int(line) - 1]


def test_printf_and_assert(cuda):
    x = torch.arange(64, dtype=torch.int32) + 5
    assert cuda.launch("speaks", (1,), (64,), [x]).printed == ("block 0 has 5 of text, 0.5\n",)
    x[40] = 100
    caught = fault(cuda, "speaks", (1,), (64,), [x])
    assert (caught.kind, caught.threads) == ("assert", (40,))
    assert "x[threadIdx.x] < 100" in caught.detail


def test_an_access_one_beyond_the_end_is_reported(cuda):
    caught = fault(cuda, "off_by_one", (2,), (64,), [torch.zeros(100), torch.zeros(128), 100], names=["x", "out", "n"])
    assert (caught.kind, caught.buffer, caught.offset) == ("out of bounds", "argument 0 (x)", 400)
    assert (caught.block, caught.threads) == ((1, 0, 0), (36,))


def test_syncthreads_in_a_branch_of_one_warp_is_reported(cuda):
    assert fault(cuda, "divergent_barrier", (1,), (32,), [torch.zeros(32)]).kind == "divergent barrier"


def test_a_member_mask_that_names_absent_threads_is_reported(cuda):
    assert fault(cuda, "wrong_mask", (1,), (32,), [torch.zeros(32)]).kind == "bad sync mask"
