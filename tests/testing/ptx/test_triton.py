"""Triton kernels compiled for NVIDIA targets: values, and faults found in a third party's kernel."""

import dataclasses

import pytest
import torch

from lisa_kernels.core.config import read_settings

if read_settings().interpret:
    pytest.skip("needs the compiler: unset TRITON_INTERPRET", allow_module_level=True)
pytest.importorskip("triton", reason="needs triton")

import triton.language as tl

from lisa_kernels.core.launch import record, specialise
from lisa_kernels.core.tiling import Tile
from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx import PtxError, emulate, run_compiled
from tests.specimens.specimens import SPECIMENS
from tests.testing.ptx import triton_kernels as kernels

TARGETS = (
    "sm_80",
    pytest.param("sm_89", marks=pytest.mark.prove),
    "sm_90",
    pytest.param("sm_120", marks=pytest.mark.prove),
)
SCHEDULES = ("lockstep", pytest.param(1, marks=pytest.mark.prove))
every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def with_types(kernel, grid, args, types, target, *, num_warps=4, **constexprs):
    """Launch with other pointer types than the tensors' own: 8-bit floats travel as bytes."""
    options = {"num_warps": num_warps, "num_stages": 2, "enable_fp_fusion": True}
    launch = specialise(kernel, grid, args, constexprs=constexprs, options=options)
    launch = dataclasses.replace(launch, signature=launch.signature | types)
    compiled = compile_launch(launch, target)
    run_compiled(compiled, grid, launch.passed(args))
    return compiled.asm["ptx"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@every_target
@pytest.mark.parametrize("name", SPECIMENS)
def test_specimens_match_their_definition(name, target, schedule):
    specimen = SPECIMENS[name]
    args = specimen.make_args(0)
    with record() as launches:
        specimen.launch(args)
    compiled = compile_launch(launches[0], target)
    run_compiled(compiled, launches[0].grid, launches[0].passed(args), schedule=schedule, block_order=7)
    for output in specimen.outputs:
        assert_matches(specimen.named(args)[output], specimen.expected(args)[output], depth=specimen.depth, name=output)


DOTS = {
    "bf16": (torch.bfloat16, tl.float32, {}),
    "f16": (torch.float16, tl.float32, {}),
    "f16 into f16": (torch.float16, tl.float16, {}),
    "tf32": (torch.float32, tl.float32, {}),
    "int8": (torch.int8, tl.int32, {}),
    "e4m3": (torch.float8_e4m3fn, tl.float32, {"a_ptr": "*fp8e4nv", "b_ptr": "*fp8e4nv"}),
    "e5m2": (torch.float8_e5m2, tl.float32, {"a_ptr": "*fp8e5", "b_ptr": "*fp8e5"}),
}


@every_target
@pytest.mark.parametrize("name", DOTS)
def test_products_of_every_operand_type(name, target):
    dtype, out, types = DOTS[name]
    if target == "sm_80" and name == "e4m3":
        pytest.skip("Triton has no e4m3 on sm_80: use sm_89 or later")
    # Integers: exact in every type and order of summation.
    a, b = (torch.randint(-3, 4, shape).to(dtype) for shape in ((64, 32), (32, 64)))
    c = torch.zeros(64, 64, dtype={tl.float32: torch.float32, tl.float16: torch.float16}.get(out, torch.int32))
    raw = [t.view(torch.uint8) if types else t for t in (a, b)]
    ptx = with_types(kernels.dot_kernel, (1,), (*raw, c), types, target, M=64, N=64, K=32, OUT=out)
    assert ("wgmma" if target == "sm_90" else "mma.sync") in ptx
    assert torch.equal(c.double(), a.double() @ b.double())


@every_target
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_transposed_operands_and_operands_from_registers(dtype, target):
    a, b, c = (torch.randint(-2, 3, (64, 64)).to(dtype) for _ in "abc")
    c = torch.zeros(64, 64)
    emulate(kernels.transposed_dot_kernel, (1,), a, b, c, target=target, constexprs={"SIZE": 64})
    expected = (a.double().T @ b.double()) @ b.double().T
    assert torch.equal(c.double(), expected)


@every_target
@pytest.mark.parametrize("num_warps", [4, 8])
def test_pipelined_products(target, num_warps):
    a, b, c = torch.randn(128, 128).bfloat16(), torch.randn(128, 128).bfloat16(), torch.zeros(128, 128)
    emulate(
        kernels.pipelined_kernel, (1,), a, b, c, target=target, tile=Tile(num_warps=num_warps, num_stages=3),
        constexprs={"K": 128, "SIZE": 128, "BLOCK_K": 32},
    )  # fmt: skip
    assert_matches(c, a.double() @ b.double(), depth=128)


@every_target
def test_elementwise_with_a_tail(target):
    x, y, out = torch.randn(1000), torch.randn(1000), torch.zeros(1000)
    report = emulate(kernels.add_kernel, (4,), x, y, out, 1000, target=target, constexprs={"BLOCK": 256})
    assert torch.equal(out, x + y)
    assert report.blocks == 4


@every_target
def test_sort_gather_and_argmax(target):
    x, out = torch.randn(2, 256), torch.zeros(2, 256)
    emulate(kernels.sort_kernel, (2,), x, out, target=target, constexprs={"BLOCK": 256})
    assert torch.equal(out, x.sort(1)[0])
    index, out = torch.randint(0, 256, (256,), dtype=torch.int32), torch.zeros(256)
    emulate(kernels.gather_kernel, (1,), x[0], index, out, target=target, constexprs={"BLOCK": 256})
    assert torch.equal(out, x[0][index.long()])
    x, out = torch.randn(32, 64), torch.zeros(32, dtype=torch.int32)
    emulate(kernels.argmax_kernel, (1,), x, out, target=target, constexprs={"ROWS": 32, "COLUMNS": 64})
    assert torch.equal(out.long(), x.argmax(1))


@every_target
def test_atomics_between_blocks_in_any_order(target):
    x, out = torch.randint(0, 16, (700,), dtype=torch.int32), torch.zeros(16, dtype=torch.int32)
    emulate(kernels.histogram_kernel, (3,), x, out, 700, target=target, block_order=1, constexprs={"BLOCK": 256})
    assert torch.equal(out, x.bincount(minlength=16).int())
    lock, out = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    emulate(kernels.lock_kernel, (5,), lock, out, target=target, block_order=1)
    assert out.item() == 5


@every_target
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_atomics(dtype, target):
    x, out = torch.randint(0, 5, (256,)).to(dtype), torch.zeros(16, dtype=dtype)
    emulate(kernels.atomic_float_kernel, (2,), x, out, target=target, constexprs={"BLOCK": 128})
    assert torch.equal(out.double(), x.double().reshape(16, 16).sum(0))


@every_target
def test_elementary_functions(target):
    x, out = torch.rand(256), torch.zeros(256)
    emulate(kernels.functions_kernel, (1,), x, out, target=target, constexprs={"BLOCK": 256})
    # The kernel rounds x * 1e6 to float before it takes the sine.
    y, z = x.double(), (x * 1e6).double()
    expected = y.sqrt() + (y + 1).log() + z.sin() + y.cos() + y.erf() + y.exp2() + (y + 1).rsqrt()
    expected += (x * 3).floor().double() + (x * 10).int().double()
    assert_matches(out, expected, depth=16)


CASTS = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32,
    torch.int64,
)  # fmt: skip


@pytest.mark.prove
@every_target
@pytest.mark.parametrize("source", CASTS, ids=str)
def test_casts_give_the_bits_of_torch(source, target):
    for result in CASTS:
        x = torch.randn(256) * 300
        # Casts of values that do not fit an integer are undefined.
        x = (x if result.is_floating_point else x.abs().clamp(0, 120)).to(source)
        out = torch.zeros(256, dtype=result)
        emulate(kernels.cast_kernel, (1,), x, out, target=target, constexprs={"BLOCK": 256})
        assert torch.equal(out, x.to(result)), result


@every_target
def test_a_mixture_of_features(target):
    x, y, out = torch.randn(64, 64), torch.randn(64, 64), torch.zeros(64, 64)
    emulate(kernels.mixture_kernel, (1,), x, y, out, target=target, constexprs={"SIZE": 64})
    a, b, place = x.double(), y.double(), torch.arange(64 * 64).reshape(64, 64)
    expected = 2 * a @ b + a.max(1, keepdim=True)[0] + b.min(0, keepdim=True)[0] + (a.abs() * 0.01 + 1).cumprod(1)
    expected += a.clamp(-1, 1) + b.sigmoid() + a.flip(1) + b.T
    wide = place * 12345678901
    expected += wide % 7 + wide // 1000000007 % 5
    # 32-bit integers wrap around; umulhi takes them as unsigned.
    product = place * ((place * 100000) % 2**32) // 2**32
    xor = place[:, 0].clone()
    for column in range(1, 64):
        xor ^= place[:, column]
    expected += product % 3 + (xor % 5)[:, None]
    assert_matches(out, expected, depth=128)


@every_target
def test_a_barrier_orders_global_memory_within_a_block_and_its_loss_is_seen(target):
    x = torch.randn(32, 32)
    expected, out = x.flip(0), torch.zeros(32, 32)
    options = {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True}
    launch = specialise(kernels.reload_kernel, (1,), (x, out), constexprs={"SIZE": 32}, options=options)
    compiled = compile_launch(launch, target)
    run_compiled(compiled, (1,), (x, out))
    assert torch.equal(x, expected)
    text = compiled.asm["ptx"]
    start = text.index("bar.sync")
    cut = text[:start] + text[text.index(";", start) + 1 :]
    with pytest.raises(PtxError, match="global race"):
        run_compiled(compiled, (1,), (x, torch.zeros(32, 32)), ptx=cut)


def test_an_overread_names_the_argument_and_the_line():
    x, out = torch.randn(1000), torch.zeros(1000)
    with pytest.raises(PtxError) as caught:
        emulate(kernels.overread_kernel, (4,), x, out, 1000, constexprs={"BLOCK": 256})
    fault = caught.value
    assert (fault.kind, fault.buffer, fault.block) == ("out of bounds", "argument 0 (x_ptr)", (3, 0, 0))
    assert fault.offset == 4000
    path, line = fault.source.rsplit(":", 1)
    assert path.endswith("triton_kernels.py")
    with open(path) as source:
        assert "tl.load(x_ptr + i)" in source.readlines()[int(line) - 1]


def test_programs_that_update_one_number_race():
    x, out = torch.randn(512), torch.zeros(1)
    emulate(kernels.racy_sum_kernel, (1,), x, out, constexprs={"BLOCK": 256})
    with pytest.raises(PtxError, match="global race") as caught:
        emulate(kernels.racy_sum_kernel, (2,), x, out, constexprs={"BLOCK": 256})
    assert caught.value.buffer == "argument 1 (out_ptr)"


@every_target
def test_device_assert_and_print(target):
    x = torch.arange(8, dtype=torch.int32)
    options = {"num_warps": 1, "num_stages": 2, "enable_fp_fusion": True, "debug": True}
    launch = specialise(kernels.assert_kernel, (1,), (x, 7), constexprs={"BLOCK": 8}, options=options)
    compiled = compile_launch(launch, target)
    report = run_compiled(compiled, (1,), (x, 8))
    assert any("value" in text and text.rstrip().endswith(" 7") for text in report.printed)
    with pytest.raises(PtxError, match="too large") as caught:
        run_compiled(compiled, (1,), (x, 7))
    assert caught.value.kind == "assert"
    assert 7 in caught.value.threads


def test_kernels_for_tcgen05_are_refused_by_name():
    a, b, c = torch.randn(128, 64).bfloat16(), torch.randn(64, 128).bfloat16(), torch.zeros(128, 128)
    sizes = {"M": 128, "N": 128, "K": 64, "OUT": tl.float32}
    with pytest.raises(PtxError, match="unsupported"):
        emulate(kernels.dot_kernel, (1,), a, b, c, target="sm_100", constexprs=sizes)


def test_tensors_on_other_devices_are_refused():
    with pytest.raises(ValueError, match="it takes CPU tensors"):
        emulate(kernels.sort_kernel, (1,), torch.empty(256, device="meta"), torch.zeros(256), constexprs={"BLOCK": 256})


@every_target
@pytest.mark.parametrize("seed", range(4))
def test_an_inner_product_whose_lanes_differ_in_the_last_bit_is_no_fault(target, seed):
    # LLVM contracts each product into the first addition of the butterfly: see one_word.py.
    torch.manual_seed(seed)
    x, y, out = torch.randn(128), torch.randn(128), torch.zeros(1)
    emulate(kernels.inner_product_kernel, (1,), x, y, out, target=target, constexprs={"BLOCK": 128}, schedule=seed)
    assert_matches(out, (x.double() @ y.double())[None], depth=128)


def test_debug_compiles_asserts_in():
    x = torch.arange(8, dtype=torch.int32)
    emulate(kernels.assert_kernel, (1,), x, 7, num_warps=1, constexprs={"BLOCK": 8})
    with pytest.raises(PtxError, match="too large"):
        emulate(kernels.assert_kernel, (1,), x, 7, num_warps=1, constexprs={"BLOCK": 8}, debug=True)


def test_targets_and_kernels_that_cannot_be_emulated_are_refused():
    x, out = torch.zeros(128), torch.zeros(128)
    with pytest.raises(ValueError, match="target is gfx942; it takes NVIDIA's"):
        emulate(kernels.gather_kernel, (1,), x, x.int(), out, target="gfx942", constexprs={"BLOCK": 128})
    with pytest.raises(TypeError, match=r"it takes a @triton\.jit function"):
        emulate(len, (1,), x)


@pytest.mark.parametrize("target", ["sm_100", "sm_120"])
def test_bfloat16_added_to_float32_in_one_instruction(target):
    x, out = torch.randn(128).bfloat16(), torch.randn(128)
    expected = x.float() + out
    emulate(kernels.accumulate_kernel, (1,), x, out, target=target, constexprs={"BLOCK": 128})
    assert torch.equal(out, expected)


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_double_logarithms_and_products(target):
    x, out = torch.rand(128, dtype=torch.float64) + 0.5, torch.zeros(128, dtype=torch.float64)
    emulate(kernels.logarithm_kernel, (1,), x, out, target=target, constexprs={"BLOCK": 128})
    assert_matches(out, x.log(), depth=16)
    a, b = (torch.randint(-3, 4, (32, 32)).double() for _ in "ab")
    c = torch.zeros(32, 32, dtype=torch.float64)
    sizes = {"M": 32, "N": 32, "K": 32, "OUT": tl.float64}
    emulate(kernels.dot_kernel, (1,), a, b, c, target=target, constexprs=sizes)
    assert torch.equal(c, a @ b)
