"""``cross_modal_attention`` on Triton, interpreted under the sanitizer: cases, tiles, descriptors, traffic, faults."""

import pytest
import torch

import lisa_kernels
from lisa_kernels.ops.attention import kernels_key_grad, spec, tiles, triton_impl
from lisa_kernels.testing import assert_matches, same_bits
from lisa_kernels.testing.inputs import make_inputs, require_grad
from lisa_kernels.testing.interpreter import honest_interpreter
from lisa_kernels.testing.judge import judge_case
from lisa_kernels.testing.rows import FAILED
from lisa_kernels.testing.sanitizer import sanitize
from tests.ops.attention_problems import random_layout, random_qkv, six_types

SPEC = spec.SPECS[0]
CASES = {case.name: case for case in (*SPEC.cases, *SPEC.edges)}
TABLES = (*tiles.HALF.values(), *tiles.WIDE.values())
SIX = CASES["six types, three tiles"]


def failures(case, dtype=torch.float32):
    rows = judge_case(SPEC, case, dtype, backend="interpreted", behaviour=False)
    return [f"{row.check}: {row.message}" for row in rows if row.status == FAILED]


def use_tile(monkeypatch, **changes):
    """Make all three kernels of the interpreter take one tile."""
    tile = tiles.AttentionTile(**changes)
    for table in TABLES:
        monkeypatch.setitem(table, "interp", ((None, tile),))


@pytest.mark.prove
@pytest.mark.parametrize("dtype", SPEC.dtypes, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_every_case_agrees_with_the_definition(name, dtype):
    assert not failures(CASES[name], dtype)


@pytest.mark.parametrize(
    ("queries", "keys"),
    [(128, 128), *(pytest.param(*tile, marks=pytest.mark.prove) for tile in ((64, 128), (16, 32)))],
)
def test_results_agree_for_any_tile(queries, keys, monkeypatch):
    use_tile(monkeypatch, QUERIES=queries, KEYS=keys)
    assert not failures(CASES["six types"])


SOME = ["wide values, one key head", pytest.param("five modalities", marks=pytest.mark.prove)]


@pytest.mark.parametrize("name", SOME)
def test_descriptors_agree_with_the_definition(name, monkeypatch):
    use_tile(monkeypatch, QUERIES=64, KEYS=64, DESCRIPTORS=True)
    assert not failures(CASES[name])


def test_descriptors_and_addresses_give_the_same_bits(monkeypatch):
    results = []
    for descriptors in (False, True):
        use_tile(monkeypatch, QUERIES=64, KEYS=64, DESCRIPTORS=descriptors)
        inputs = require_grad(make_inputs(SPEC, SIX, torch.float32), "qkv")
        with lisa_kernels.use_backend("triton"), sanitize():
            out, lse = lisa_kernels.cross_modal_attention(**inputs)
            grads = torch.autograd.grad((out.sum() + lse[lse.isfinite()].sum()), [inputs[name] for name in "qkv"])
        results.append([out.detach(), lse.detach(), *grads])
    assert all(same_bits(mine, other) for mine, other in zip(*results, strict=True))


def test_elements_beyond_31_bits_are_reached():
    """A token stride of 2**24 - 8 elements: the last of 200 tokens begins behind element 2**31."""
    plan = lisa_kernels.attention_plan(random_layout(0, lengths=(140, 60)), six_types())
    q, k, v = random_qkv(plan, dtype=torch.float16)
    stride = 2**24 - 8
    assert (len(k) - 1) * stride > 2**31
    room = torch.empty(len(k) * stride, dtype=torch.float16)
    far = room.as_strided(k.shape, (stride, k.shape[2], 1))
    far.copy_(k)
    with lisa_kernels.use_backend("triton"), sanitize():
        near_out = lisa_kernels.cross_modal_attention(q, k, v, plan)
    with lisa_kernels.use_backend("triton"), honest_interpreter():
        far_out = lisa_kernels.cross_modal_attention(q, far, v, plan)
    assert same_bits(near_out, far_out)


def test_queries_and_outputs_move_once():
    """A program reads the queries that it owns once, and writes their outputs once."""
    inputs = require_grad(make_inputs(SPEC, SIX, torch.float32), "qkv")
    with lisa_kernels.use_backend("triton"), sanitize() as report:
        out, _ = lisa_kernels.cross_modal_attention(**inputs)
    assert report.traffic["q"].loaded == report.traffic["q"].read == inputs["q"].nbytes
    assert report.traffic["out"].stored == report.traffic["out"].written == out.nbytes


def test_frozen_keys_launch_no_kernel_for_them(monkeypatch):
    launched = []
    right = triton_impl.launch

    def noted(kernel, grid, *args, **options):
        launched.append(kernel)
        right(kernel, grid, *args, **options)

    monkeypatch.setattr(triton_impl, "launch", noted)
    inputs = require_grad(make_inputs(SPEC, CASES["one token"], torch.float32), "q")
    with lisa_kernels.use_backend("triton"), sanitize():
        lisa_kernels.cross_modal_attention(**inputs)[0].sum().backward()
    assert kernels_key_grad.attention_key_grad_kernel not in launched
    assert len(launched) == 3


def test_float64_is_refused_with_the_reason():
    inputs = make_inputs(SPEC, CASES["one token"], torch.float64)
    with lisa_kernels.use_backend("triton"), pytest.raises(RuntimeError, match="float64; it takes float32"):
        lisa_kernels.cross_modal_attention(**inputs)


# Planted: launches with one argument wrong, and what notices.
def shortened(table):
    """Lists that name one tile less."""
    changed = table.clone()
    changed[..., 1] = (changed[..., 1] - 1).clamp(min=0)
    changed[..., 0] = torch.minimum(changed[..., 0], changed[..., 1])
    return changed


FAULTS = {
    "a tile is left out": lambda name, arg: shortened(arg) if name == "lists" else arg,
    "partial tiles are taken for full ones": lambda name, arg: (
        torch.cat([torch.zeros_like(arg[..., :1]), arg[..., 1:]], -1) if name == "lists" else arg
    ),
    "every head has the first type": lambda name, arg: torch.zeros_like(arg) if name == "head_type" else arg,
    "words are those of the other side": lambda name, arg: arg.roll(2, 1) if name == "words" else arg,
    "later keys are seen": lambda name, arg: arg[:, [0, 0, 2, 2]].contiguous() if name == "words" else arg,
}


BACKWARD = [pytest.param(kernel, marks=pytest.mark.prove) for kernel in ("query_grad", "key_grad")]


@pytest.mark.parametrize("kernel", ["forward", *BACKWARD])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_kernel_told_wrong_is_caught(fault, kernel, monkeypatch):
    right = triton_impl.launch

    def wrong(launched, grid, *args, **options):
        if launched.__name__ == f"attention_{kernel}_kernel":
            names = [name for name in launched.arg_names if name not in options and not name.isupper()]
            args = [FAULTS[fault](name, arg) for name, arg in zip(names, args, strict=True)]
        right(launched, grid, *args, **options)

    monkeypatch.setattr(triton_impl, "launch", wrong)
    use_tile(monkeypatch, QUERIES=128, KEYS=128)
    assert failures(CASES["six types"])


def test_dead_rows_are_zeros_and_plus_infinity():
    inputs = make_inputs(SPEC, CASES["all padding"], torch.float32)
    q, k, v, plan = (inputs[name] for name in ("q", "k", "v", "plan"))
    with sanitize():
        out, lse2 = triton_impl.forward(q, k, v, *plan.tensors, 1.0, plan.causal, plan.exact, plan.reordered)
    assert same_bits(out, torch.zeros_like(out))
    assert (lse2 == torch.inf).all()


def test_sorted_and_packed_orders_agree():
    layout = random_layout(3, lengths=(90, 130), run=4)
    results = {}
    for order in ("packed", "sorted"):
        plan = lisa_kernels.attention_plan(layout, six_types(), order=order)
        assert plan.reordered == (order == "sorted")
        inputs = random_qkv(plan)
        with lisa_kernels.use_backend("triton"), sanitize():
            results[order] = lisa_kernels.cross_modal_attention(*inputs, plan)
    assert_matches(results["sorted"], results["packed"].double(), depth=2 * 130, name="out")
