"""``cross_modal_attention`` on its C++ kernels: every build, any number of threads, saved tensors, accuracy."""

import pytest
import torch
import torch.nn.functional as F

import lisa_kernels
from lisa_kernels import AttentionPolicy, ModalityLayout, attention_plan, cross_modal_attention
from lisa_kernels.core import native
from lisa_kernels.core.config import CAPABILITIES
from lisa_kernels.ops.attention import reference
from lisa_kernels.testing import assert_matches, same_bits
from tests.ops.attention_problems import random_layout, six_types

pytestmark = pytest.mark.skipif(
    native.module() is None, reason="needs the native extension: reinstall where a C++ compiler is in PATH"
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Roundings to half precision, as in the op's spec.
HALF_ROUNDINGS = 4


@pytest.fixture
def restored():
    """Thread count and capability as they were."""
    threads, capability = torch.get_num_threads(), native.build_info()["cpu_capability"]
    yield
    torch.set_num_threads(threads)
    native.module().set_cpu_capability(capability)


def inputs(plan, *, heads=6, key_heads=2, width=64, value_width=64, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((len(plan.layout), heads, width), (len(plan.layout_k), key_heads, width))
    shapes += ((len(plan.layout_k), key_heads, value_width),)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def differentiate(leaves, plan, function=cross_modal_attention, wanted=(0, 1, 2)):
    """Output, lse and the wanted gradients of q, k and v of a loss that uses both outputs."""
    out, lse = function(*leaves, plan, return_lse=True)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in (out, lse)]
    seen = lse.isfinite()
    grads[1] = torch.where(seen, grads[1], 0)
    gradients = torch.autograd.grad((out, lse), [leaves[i] for i in wanted], grads)
    return [out.detach(), torch.where(seen, lse, 0).detach(), *gradients]


def on_cpu(leaves, plan):
    with lisa_kernels.use_backend("cpu"):
        return differentiate(leaves, plan)


def definition(leaves, plan):
    wide = [x.detach().double().requires_grad_() for x in leaves]
    return differentiate(wide, plan, reference.cross_modal_attention)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_build_agrees_with_the_definition(capability, dtype, restored):
    """One machine runs all narrower builds; widths that are no multiple of a vector, types mixed inside a group."""
    if CAPABILITIES.index(capability) > CAPABILITIES.index(native.build_info()["widest_cpu_capability"]):
        pytest.skip(f"this machine has no {capability}")
    native.module().set_cpu_capability(capability)
    plan = attention_plan(random_layout(3, lengths=(70, 150, 1), padding=5), six_types())
    leaves = inputs(plan, width=72, value_width=40, dtype=dtype)
    names = ("out", "lse", "grad_q", "grad_k", "grad_v")
    for name, got, expected in zip(names, on_cpu(leaves, plan), definition(leaves, plan), strict=True):
        assert_matches(got, expected, depth=600, half_roundings=HALF_ROUNDINGS, name=f"{capability}, {name}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("lengths", "heads", "key_heads"),
    [((1300,), 1, 1), ((1300, 200), 3, 1), ((90, 300, 70), 6, 2)],
    ids=["one head", "three heads on one key head", "three samples"],
)
def test_any_number_of_threads_gives_the_same_bits(lengths, heads, key_heads, dtype, restored):
    """Few samples and heads are cut for more threads: whose gradients then come from two units, not one."""
    policy = AttentionPolicy.of(["causal", "within", "full", "cross", "full", "causal"][:heads], n_modality=3)
    plan = attention_plan(random_layout(0, lengths=lengths), policy)
    leaves = inputs(plan, heads=heads, key_heads=key_heads, dtype=dtype)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(on_cpu(leaves, plan))
    for other in results[1:]:
        assert all(same_bits(got, first) for got, first in zip(other, results[0], strict=True))


def test_one_long_sample_with_one_head_keeps_two_threads_busy(restored):
    """The time of a second thread is as long as that of the first, forward and backward."""
    import threading
    import time

    plan = attention_plan(ModalityLayout.from_runs([0], [3000], [0]), AttentionPolicy.of(["full"], n_modality=1))
    leaves = inputs(plan, heads=1, key_heads=1)
    torch.set_num_threads(2)
    on_cpu(leaves, plan)
    # CPU time of the process beyond that of this thread; backward runs here too, on a CPU.
    assert threading.current_thread() is threading.main_thread()
    alone, together = time.thread_time(), time.process_time()
    on_cpu(leaves, plan)
    alone, together = time.thread_time() - alone, time.process_time() - together
    assert together - alone > alone / 2


@pytest.mark.parametrize("width", [32, 64, 256])
def test_more_keys_than_a_block_agree_with_the_definition(width):
    """Blocks of keys are packed one after the other; the tiles of queries wait in between."""
    plan = attention_plan(random_layout(5, lengths=(2300,), run=300), AttentionPolicy.of(["causal"] * 2, n_modality=3))
    leaves = inputs(plan, heads=2, key_heads=1, width=width, value_width=width)
    for got, expected in zip(on_cpu(leaves, plan), definition(leaves, plan), strict=True):
        assert_matches(got, expected, depth=5000)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_plans_of_both_orders_give_the_same_bits(dtype):
    """The kernels gather a modality's tokens themselves, whatever the order of the plan's slots."""
    layout = random_layout(2, lengths=(200, 130), run=4, padding=3)
    leaves = inputs(attention_plan(layout, six_types()), dtype=dtype)
    plans = [attention_plan(layout, six_types(), order=order) for order in ("packed", "sorted")]
    packed, ordered = (on_cpu(leaves, plan) for plan in plans)
    assert all(same_bits(a, b) for a, b in zip(packed, ordered, strict=True))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
def test_a_frozen_input_does_not_change_the_other_gradients(wanted):
    plan = attention_plan(random_layout(4, lengths=(90, 150)), six_types())
    leaves = inputs(plan)
    everything = on_cpu(leaves, plan)[2:]
    frozen = [x if i in wanted else x.detach() for i, x in enumerate(leaves)]
    with lisa_kernels.use_backend("cpu"):
        got = differentiate(frozen, plan, wanted=wanted)[2:]
    assert all(same_bits(grad, everything[i]) for grad, i in zip(got, wanted, strict=True))


@pytest.mark.parametrize(("before", "after"), [("reference", "cpu"), ("cpu", "reference")])
def test_saved_tensors_mean_the_same_in_every_backend(before, after):
    """Forward on one backend, backward on the other; some rows are dead."""
    plan = attention_plan(random_layout(6, lengths=(90, 40), padding=4), six_types())
    leaves = inputs(plan)
    with lisa_kernels.use_backend(before):
        out = cross_modal_attention(*leaves, plan)
    with lisa_kernels.use_backend(after):
        got = torch.autograd.grad(out.square().sum(), leaves)
    wide = [x.detach().double().requires_grad_() for x in leaves]
    expected = torch.autograd.grad(reference.cross_modal_attention(*wide, plan).square().sum(), wide)
    for grad, exact in zip(got, expected, strict=True):
        assert_matches(grad, exact, depth=1000)


def test_nan_in_a_key_reaches_the_queries_that_see_it_and_no_others():
    plan = attention_plan(
        ModalityLayout.from_runs([0, 0], [70, 70], [0, 1]), AttentionPolicy.of(["causal"], n_modality=1)
    )
    q, k, v = (x.detach() for x in inputs(plan, heads=1, key_heads=1))
    k[30] = float("nan")
    with lisa_kernels.use_backend("cpu"):
        out = cross_modal_attention(q, k, v, plan)
    assert out[30:70].isnan().all()
    assert out[:30].isfinite().all()
    assert out[70:].isfinite().all()


def relative_rms(got, exact):
    return float((got.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("name", ["causal", "full"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_errors_are_no_larger_than_those_of_sdpa(dtype, name):
    """Against fp64: at most 1.5 times SDPA's in fp32 (measured 0.9 to 1.2), no more than SDPA's in half precision."""
    tokens = 1500
    plan = attention_plan(ModalityLayout.from_runs([0], [tokens], [0]), AttentionPolicy.of([name], n_modality=1))
    leaves = inputs(plan, heads=1, key_heads=1, dtype=dtype)
    weight = torch.randn(tokens, 1, 64, generator=torch.Generator().manual_seed(2))

    def run(function, leaves):
        out = function(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, weight.to(out.dtype))]

    def sdpa(q, k, v):
        heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
        return F.scaled_dot_product_attention(*heads_first, is_causal=name == "causal")[0].transpose(0, 1)

    weight = weight.to(dtype)
    exact = run(sdpa, [x.detach().double().requires_grad_() for x in leaves])
    with lisa_kernels.use_backend("cpu"):
        ours = run(lambda *x: cross_modal_attention(*x, plan), leaves)
    allowed = 1.5 if dtype == torch.float32 else 1.01
    for what, got, peer, truth in zip(("out", "q", "k", "v"), ours, run(sdpa, leaves), exact, strict=True):
        assert relative_rms(got, truth) <= allowed * relative_rms(peer, truth), what
