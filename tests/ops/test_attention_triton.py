"""``cross_modal_attention`` on Triton as compiled: launches, recompilation, registers, instructions, the emulator."""

import itertools

import pytest
import torch

import lisa_kernels
from lisa_kernels.core.launch import record, run_through
from lisa_kernels.core.targets import TARGETS, force_target
from lisa_kernels.ops.attention import spec
from lisa_kernels.testing.judge import judge_case
from lisa_kernels.testing.rows import FAILED, PASSED
from tests.ops.attention_problems import random_layout, random_qkv, six_types

pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")

from lisa_kernels.core.config import read_settings
from lisa_kernels.ops.attention import triton_impl
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.engines import find_engines
from lisa_kernels.testing.ptx import PtxError, run_compiled
from lisa_kernels.testing.static import analyze_launch

pytestmark = pytest.mark.skipif(read_settings().interpret, reason="compiles kernels: unset TRITON_INTERPRET")
GPUS = [name for name, target in TARGETS.items() if target.backend]
SPEC = spec.SPECS[0]
CASES = {case.name: case for case in (*SPEC.cases, *SPEC.edges)}
# Instructions of one warp in a full tile of 128 x 128, D = 128, sm_90: Triton's fused attention tutorial.
TUTORIAL_FULL_TILE = 527


def launches(target, width, *, causal=False, exact=False, reordered=False, dtype=torch.bfloat16, needs=(True,) * 3):
    """What forward and backward of one layer would launch, by kernel."""
    tokens, heads = 4096, 8
    q, k, v = (torch.empty(tokens, heads, width, dtype=dtype, device="meta") for _ in range(3))

    def table(*shape, dtype=torch.int32):
        return torch.empty(shape, dtype=dtype, device="meta")

    tiles = tokens // 128
    tokens_table, lists = table(4 + reordered, tokens), table(2, tiles, 2 + tiles, dtype=torch.int16)
    plan = (
        tokens_table, tokens_table, table(2, 4, 33), table(heads), lists, lists, table(heads * tiles), table(tiles)
    )  # fmt: skip
    flags = 0.1, causal, exact, reordered
    with force_target(target), record() as log:
        out, lse2 = triton_impl.forward(q, k, v, *plan, *flags)
        triton_impl.backward(out, lse2, q, k, v, out, lse2, *plan, *flags, list(needs))
    return {entry.kernel.__name__.removeprefix("attention_").removesuffix("_kernel"): entry for entry in log}


@pytest.mark.parametrize(
    ("needs", "names"),
    [
        ((True, True, True), ["forward", "delta", "query_grad", "key_grad"]),
        ((True, False, False), ["forward", "delta", "query_grad"]),
        ((False, False, True), ["forward", "delta", "key_grad"]),
    ],
)
def test_a_layer_is_four_launches_and_frozen_inputs_save_theirs(needs, names):
    assert list(launches("sm_90", 64, needs=needs)) == names


def test_fifty_packings_are_one_compilation():
    found = set()
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(43, 700, (int(torch.randint(1, 6, (), generator=generator)),), generator=generator)
        plan = lisa_kernels.attention_plan(random_layout(seed, lengths=tuple(lengths.tolist())), six_types())
        q, k, v = random_qkv(plan, width=64, dtype=torch.bfloat16)
        flags = 0.1, plan.causal, plan.exact, plan.reordered
        with force_target("sm_90"), record() as log:
            out, lse2 = triton_impl.forward(q, k, v, *plan.tensors, *flags)
            triton_impl.backward(out, lse2, q, k, v, out, lse2, *plan.tensors, *flags, [True] * 3)
        for entry in log:
            found.add((entry.kernel.__name__, *(repr(getattr(entry, x)) for x in ("signature", "constexprs", "attrs"))))
    assert len(found) == 4


@pytest.mark.prove
@pytest.mark.parametrize(
    ("target", "width", "mode"),
    [
        *itertools.product(
            ["sm_80", "sm_90"],
            [64, 128],
            [{}, {"causal": True}, {"causal": True, "exact": True}, {"reordered": True}],
        ),
        *itertools.product(["sm_80", "sm_90", "sm_100"], [96, 192, 256], [{"causal": True, "exact": True}]),
    ],
    ids=str,
)
def test_nothing_spills(target, width, mode):
    for name, entry in launches(target, width, **mode).items():
        figures = analyze_launch(entry, target)
        assert (figures.spills, figures.stack_bytes) == (0, 0), name


def test_forward_on_sm_90_takes_few_instructions_a_tile():
    """Full tiles as few as the tutorial's, which knows no lists; partial ones cost a third more."""
    figures = analyze_launch(launches("sm_90", 128)["forward"], "sm_90")
    assert set(figures.mma) == {"HGMMA"}
    assert (figures.spills, figures.stack_bytes) == (0, 0)
    full, partial = (loop.instructions for loop in figures.loops)
    assert full <= 1.02 * TUTORIAL_FULL_TILE
    assert partial <= 1.32 * full


@pytest.mark.prove
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("kernel", ["forward", "query_grad", "key_grad"])
@pytest.mark.parametrize(("causal", "most"), [(False, 1.32), (True, 1.65)])
def test_masked_tiles_cost_little_more_than_full_ones(kernel, width, causal, most):
    figures = analyze_launch(launches("sm_90", width, causal=causal)[kernel], "sm_90")
    full, partial = (loop.instructions for loop in figures.loops)
    assert partial <= most * full


@pytest.mark.parametrize("target", ["sm_90", "sm_100"])
def test_aligned_memory_goes_through_descriptors(target):
    compiled = launches(target, 64)["forward"]
    assert compiled.constexprs["DESCRIPTORS"]
    assert "cp.async.bulk.tensor" in compile_launch(compiled, target).asm["ptx"]


def test_gathered_rows_are_loaded_128_bits_a_thread():
    ptx = compile_launch(launches("sm_80", 64, reordered=True)["forward"], "sm_80").asm["ptx"]
    # The .cg form copies 16 bytes; tables are copied 4 at a time.
    assert "cp.async.cg.shared.global" in ptx


def judged(name, target, dtype):
    engine = next(e for e in find_engines("emulated", (target,)) if e.backend == "triton")
    return judge_case(SPEC, CASES[name], dtype, backend=engine, behaviour=False)


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_compiled_kernels_agree_with_the_definition(target):
    rows = judged("six types", target, torch.bfloat16)
    assert not [row.message for row in rows if row.status == FAILED]
    assert [row for row in rows if row.status == PASSED]


@pytest.mark.prove
@pytest.mark.parametrize("dtype", SPEC.dtypes, ids=str)
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", CASES)
def test_every_compiled_case_agrees_with_the_definition(name, target, dtype):
    assert not [row.message for row in judged(name, target, dtype) if row.status == FAILED]


def test_a_missing_wait_for_a_copy_is_a_race():
    """Planted: cp.async tiles read before they have landed."""
    plan = lisa_kernels.attention_plan(random_layout(0, lengths=(300,)), six_types())
    q, k, v = random_qkv(plan, dtype=torch.bfloat16)

    def execute(launch, values):
        compiled = compile_launch(launch, "sm_80")
        ptx = compiled.asm["ptx"].replace("cp.async.wait_group", "// cp.async.wait_group")
        run_compiled(compiled, launch.grid, launch.passed(values), ptx=ptx)

    with force_target("sm_80"), run_through(execute), pytest.raises(PtxError):
        triton_impl.forward(q, k, v, *plan.tensors, 0.1, plan.causal, plan.exact, plan.reordered)
