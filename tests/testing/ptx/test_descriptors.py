"""Tensor copies as Triton compiles them for sm_90: values, and each wait and fence removed and missed."""

import re

import pytest
import torch

from lisa_kernels.core.config import read_settings

if read_settings().interpret:
    pytest.skip("needs the compiler: unset TRITON_INTERPRET", allow_module_level=True)
pytest.importorskip("triton", reason="needs triton")

from triton.tools.tensor_descriptor import TensorDescriptor

from lisa_kernels.core.launch import specialise
from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.ptx import PtxError, emulate, run_compiled
from tests.testing.ptx import descriptor_kernels as kernels

prove = pytest.mark.prove
SMALL, LARGE = (64, 64, 32), (128, 128, 64)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def describe(tensor, *block, padding="zero"):
    return TensorDescriptor.from_tensor(tensor, list(block), padding)


def matmul(problem, tile, *, made_by="host", target="sm_90", dtype=torch.bfloat16, **options):
    """Run a product through descriptors and compare it with its definition."""
    (m, n, k), (block_m, block_n, block_k) = problem, tile
    # Whole numbers pass through tf32 as they are.
    draw = torch.randn if dtype != torch.float32 else lambda *shape: torch.randint(-9, 10, shape).float()
    a, b, c = draw(m, k).to(dtype), draw(k, n).to(dtype), torch.zeros(m, n).to(dtype)
    grid = (-(-m // block_m), -(-n // block_n))
    constexprs = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k}
    if made_by == "host":
        args = (describe(a, block_m, block_k), describe(b, block_k, block_n), describe(c, block_m, block_n), k)
        kernel = kernels.matmul_kernel
    else:
        args, kernel = (a, b, c, m, n, k), kernels.device_matmul_kernel
    emulate(kernel, grid, *args, constexprs=constexprs, target=target, **options)
    assert_matches(c, a.double() @ b.double(), depth=k)


@pytest.mark.parametrize("made_by", ["host", "device"])
@pytest.mark.parametrize(
    ("problem", "tile", "num_stages", "num_warps"),
    [
        ((64, 64, 96), SMALL, 3, 4),
        ((72, 136, 104), SMALL, 2, 4),
        ((136, 136, 200), LARGE, 3, 8),
        pytest.param((128, 64, 32), SMALL, 2, 4, marks=prove),
        pytest.param((8, 8, 8), SMALL, 3, 4, marks=prove),
        pytest.param((200, 72, 328), SMALL, 4, 4, marks=prove),
        pytest.param((128, 128, 256), LARGE, 2, 4, marks=prove),
        pytest.param((256, 128, 320), LARGE, 4, 4, marks=prove),
        pytest.param((136, 264, 192), LARGE, 4, 8, marks=prove),
    ],
)
def test_products_match_their_definition(problem, tile, num_stages, num_warps, made_by):
    matmul(problem, tile, num_stages=num_stages, num_warps=num_warps, made_by=made_by)


@prove
@pytest.mark.parametrize("made_by", ["host", "device"])
@pytest.mark.parametrize("schedule", [1, 2, 3])
def test_products_match_whatever_the_schedule(schedule, made_by):
    matmul((72, 136, 200), SMALL, num_stages=3, made_by=made_by, schedule=schedule, block_order=schedule)
    matmul((136, 128, 200), LARGE, num_stages=3, num_warps=8, made_by=made_by, schedule=schedule)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_element_types(dtype):
    matmul((72, 72, 72), SMALL, dtype=dtype)


@pytest.mark.parametrize("target", ["sm_80", "sm_120"])
@pytest.mark.parametrize("made_by", ["host", "device"])
def test_targets_without_and_with_tensor_copies_and_other_products(target, made_by):
    matmul((72, 72, 72), SMALL, target=target, made_by=made_by)


def test_a_transposed_operand():
    a, b, c = torch.randn(64, 104).bfloat16(), torch.randn(128, 104).bfloat16(), torch.zeros(64, 128)
    args = (describe(a, 64, 32), describe(b, 64, 32), c, 104)
    emulate(kernels.transposed_matmul_kernel, (1, 2), *args, target="sm_90", constexprs={"BLOCK": 64, "BLOCK_K": 32})
    assert_matches(c, a.double() @ b.double().T, depth=104)


@pytest.mark.parametrize("columns", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_programs_that_reuse_their_shared_memory(dtype, columns):
    x, out = torch.randint(0, 100, (80, columns)).to(dtype), torch.zeros(80, columns).to(dtype)
    args = (describe(x, 16, columns), describe(out, 16, columns), 5)
    emulate(kernels.persistent_kernel, (2,), *args, target="sm_90", constexprs={"ROWS": 16, "COLUMNS": columns})
    assert torch.equal(out, x + 1)


@pytest.mark.parametrize("columns", [64, 100])
def test_softmax_by_descriptors_of_the_kernel(columns):
    x, out = torch.randn(3, columns), torch.zeros(3, columns)
    emulate(kernels.softmax_kernel, (3,), x, out, 3, columns, target="sm_90", constexprs={"BLOCK": 128})
    assert_matches(out, x.double().softmax(1), depth=columns)


@pytest.mark.parametrize("place", [(0, 0), (40, 40), (-8, -16), (60, -20), (-100, 0), (0, 200)])
def test_what_lies_outside_the_tensor_is_zero_or_nan(place):
    x = torch.randn(50, 48)
    framed = torch.full((400, 400), float("nan"))
    framed[150:200, 150:198] = x
    expected = framed[150 + place[0] : 182 + place[0], 150 + place[1] : 182 + place[1]]
    for padding, outside in (("nan", float("nan")), ("zero", 0.0)):
        out = torch.ones(32, 32)
        args = (describe(x, 32, 32, padding=padding), out, *place)
        emulate(kernels.copy_kernel, (1,), *args, target="sm_90", constexprs={"ROWS": 32, "COLUMNS": 32})
        assert torch.equal(out.isnan(), expected.isnan() & torch.tensor(outside).isnan())
        assert torch.equal(out.nan_to_num(), expected.nan_to_num())


def test_boxes_of_three_dimensions_and_strides_of_a_view():
    x, out = torch.randn(4, 40, 64)[:, ::2, :32], torch.zeros(4, 20, 32)
    args = (describe(x, 4, 8, 32), describe(out, 4, 8, 32))
    emulate(kernels.copy_box_kernel, (3,), *args, target="sm_90", constexprs={"A": 4, "B": 8, "C": 32})
    assert torch.equal(out, x)


def test_reductions_into_a_tensor():
    x, out = torch.randint(0, 9, (64, 32)).float(), torch.ones(16, 32)
    args = (describe(x, 16, 32), describe(out, 16, 32))
    emulate(kernels.accumulate_kernel, (4,), *args, target="sm_90", constexprs={"ROWS": 16}, block_order=1)
    assert torch.equal(out, 1 + x.reshape(4, 16, 32).sum(0))


def test_a_descriptor_that_claims_more_than_its_tensor_is_out_of_bounds():
    x, out = torch.randn(50, 32), torch.zeros(32, 32)
    claims = TensorDescriptor(x, [51, 32], [32, 1], [32, 32])
    with pytest.raises(PtxError, match="out of bounds") as caught:
        emulate(kernels.copy_kernel, (1,), claims, out, 30, 0, target="sm_90", constexprs={"ROWS": 32, "COLUMNS": 32})
    assert (caught.value.buffer, caught.value.offset) == ("argument 0 (x)", 50 * 32 * 4)


def test_programs_that_store_overlapping_boxes_race():
    x, out = torch.randn(32, 32), torch.zeros(64, 32)
    overlapping = TensorDescriptor(out, [32, 32], [16, 1], [16, 32])
    args = (describe(x, 16, 32), overlapping, 2)
    with pytest.raises(PtxError, match="global race") as caught:
        emulate(kernels.persistent_kernel, (2,), *args, target="sm_90", constexprs={"ROWS": 16, "COLUMNS": 32})
    # The places are those of the compiled parameters, of which a descriptor takes five.
    assert caught.value.buffer == "argument 5 (out)"


class Compiled:
    """A compiled product, and its text with one thing changed."""

    def __init__(self, made_by, kernel=kernels.matmul_kernel):
        a, b = torch.ones(128, 256).bfloat16(), torch.ones(256, 64).bfloat16()
        self.c = torch.zeros(128, 64).bfloat16()
        constexprs = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32}
        args = (describe(a, 64, 32), describe(b, 32, 64), describe(self.c, 64, 64), 256)
        if made_by == "device":
            kernel, args = kernels.device_matmul_kernel, (a, b, self.c, 128, 64, 256)
        options = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}
        launch = specialise(kernel, (2, 1), args, constexprs=constexprs, options=options)
        self.compiled, self.args = compile_launch(launch, "sm_90"), launch.passed(args)
        self.text = self.compiled.asm["ptx"]

    def run(self, text, **options):
        self.c.zero_()
        run_compiled(self.compiled, (2, 1), self.args, ptx=text, **options)
        assert (self.c == 256).all()

    def fault(self, text, **options):
        assert text != self.text
        with pytest.raises(PtxError) as caught:
            self.run(text, **options)
        return caught.value

    def without(self, pattern, which):
        found = list(re.finditer(r"(@!?%p\d+\s+)?" + pattern + r"[^;]*;", self.text))
        return self.text[: found[which].start()] + self.text[found[which].end() :]

    def count(self, pattern):
        return len(re.findall(pattern, self.text))


@pytest.fixture(scope="module", params=["host", "device"])
def compiled(request):
    return Compiled(request.param)


@pytest.mark.parametrize("schedule", ["lockstep", 1])
def test_the_kernel_as_compiled_has_no_fault(compiled, schedule):
    compiled.run(compiled.text, schedule=schedule)


def test_each_removed_wait_is_reported(compiled):
    loop = r"mbarrier\.try_wait[^;]*;\s*@!\w+ bra\.uni \w+;"
    loops = re.findall(loop, compiled.text)
    assert loops
    for text in loops:
        assert compiled.fault(compiled.text.replace(text, "")).kind in ("unfinished bulk copy", "uninitialised")


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        (r"mbarrier\.arrive\.expect_tx", ("deadlock", "mbarrier misuse", "unfinished bulk copy")),
        (r"mbarrier\.init", ("mbarrier misuse",)),
        (r"cp\.async\.bulk\.tensor\.2d\.shared", ("deadlock",)),
        (r"fence\.proxy\.async", ("missing proxy fence",)),
    ],
)
def test_each_removed_instruction_is_reported(compiled, pattern, kinds):
    assert compiled.count(pattern)
    for which in range(compiled.count(pattern)):
        assert compiled.fault(compiled.without(pattern, which)).kind in kinds, which


def test_removing_the_last_wait_for_stores_is_reported(compiled):
    last = compiled.count(r"cp\.async\.bulk\.wait_group") - 1
    assert compiled.fault(compiled.without(r"cp\.async\.bulk\.wait_group", last)).kind == "unfinished bulk copy"
    assert compiled.fault(compiled.text.replace("wait_group \t0", "wait_group \t1")).kind == "unfinished bulk copy"


def test_a_wrong_parity_is_reported(compiled):
    wait = re.search(r"mbarrier\.try_wait\.parity\S* \w+, \[\S+\], (%r\d+);", compiled.text)
    wrong = wait[0].replace(wait[1], "%parity")
    text = compiled.text.replace(wait[0], f"xor.b32 %parity, {wait[1]}, 1; {wrong}")
    text = text.replace(".reg .pred", ".reg .b32 %parity;\n\t.reg .pred", 1)
    assert compiled.fault(text).kind in ("unfinished bulk copy", "uninitialised")


@pytest.mark.parametrize(("count", "kinds"), [(4096, ("mbarrier misuse",)), (16384, ("deadlock",))])
def test_a_wrong_number_of_expected_bytes_is_reported(compiled, count, kinds):
    text = re.sub(r"(expect_tx\S* _, \[\S+\], )8192;", rf"\g<1>{count};", compiled.text)
    assert compiled.fault(text).kind in kinds


def test_each_removed_fence_of_a_descriptor_is_reported():
    made = Compiled("device")
    assert made.count(r"fence\.proxy\.tensormap") == 3
    for which in range(3):
        assert made.fault(made.without(r"fence\.proxy\.tensormap", which)).kind == "missing proxy fence"
        # Without the copy the map is what was in scratch memory before.
        assert made.fault(made.without(r"tensormap\.cp_fenceproxy", which)).kind == "bad tensor map"


@pytest.fixture(scope="module")
def specialised():
    return Compiled("host", kernels.specialised_kernel)


@pytest.mark.parametrize("schedule", ["lockstep", pytest.param(1, marks=prove), pytest.param(2, marks=prove)])
def test_a_kernel_whose_warps_have_roles(specialised, schedule):
    assert "setmaxnreg" in specialised.text
    specialised.run(specialised.text, schedule=schedule)


@prove
@pytest.mark.parametrize(
    "pattern", [r"mbarrier\.arrive\.", r"mbarrier\.init", r"mbarrier\.try_wait[^;]*;\s*@!\w+ bra\.uni "]
)
def test_each_removed_arrival_init_and_wait_of_roles_is_reported(specialised, pattern):
    count = specialised.count(pattern)
    assert count >= 3
    for which in range(count):
        specialised.fault(specialised.without(pattern, which))
