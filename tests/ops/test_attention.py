"""``cross_modal_attention``: what is special to it.  Values, edges, determinism: tests/contract, from its spec."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F

import lisa_kernels
from lisa_kernels import AttentionPolicy, ModalityLayout, attention_plan, cross_modal_attention
from lisa_kernels.core.registry import select
from lisa_kernels.ops.attention import problems, reference
from lisa_kernels.testing import assert_matches, make_inputs, same_bits
from lisa_kernels.testing.plan import unavailable
from tests.ops.attention_problems import block_mask, random_layout, random_qkv, six_types, unknown

SPEC = select(["cross_modal_attention"])[0]
BACKENDS = [name for name in ("cpu", "reference") if unavailable(SPEC, name, torch.device("cpu")) is None]
DEPTH = 500


@pytest.fixture(params=BACKENDS)
def backend(request, single_thread):
    with lisa_kernels.use_backend(request.param):
        yield request.param


def results(function, tensors, upstream=None):
    """Output (and lse) and the gradients of q, k and v, for a random upstream gradient."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in outputs]
    grads = torch.autograd.grad(outputs, leaves, weights if upstream is None else upstream)
    return [*(x.detach() for x in outputs), *grads]


def assert_all_match(got, expected):
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert_matches(a, b.double(), depth=DEPTH, name=f"result {i}")


def with_sdpa(q, k, v, plan):
    """torch's attention with the dense mask; rows that see nothing are NaN there and are cut off."""
    mask = reference.visible(plan)[list(plan.policy.head_type)]
    group = q.shape[1] // k.shape[1]
    heads_first = (q.transpose(0, 1), *(x.repeat_interleave(group, 1).transpose(0, 1) for x in (k, v)))
    out = F.scaled_dot_product_attention(*heads_first, attn_mask=mask)
    return torch.where(mask.any(2)[:, :, None], out, 0).transpose(0, 1)


@pytest.mark.parametrize("seed", range(2))
def test_output_and_gradients_equal_torch_s_with_the_dense_mask(backend, seed):
    plan = attention_plan(random_layout(seed), six_types())
    tensors = random_qkv(plan, seed=seed)
    got = results(lambda q, k, v: cross_modal_attention(q, k, v, plan), tensors)
    expected = results(lambda q, k, v: with_sdpa(q, k, v, plan), [x.double() for x in tensors])
    assert_all_match(got, expected)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_output_equals_flex_attention_s(backend):
    from torch.nn.attention.flex_attention import flex_attention

    # No padding: FlexAttention averages over rows that see nothing.
    plan = attention_plan(random_layout(0, lengths=(90, 130)), six_types())
    tensors = random_qkv(plan)
    heads_first = [x.double().transpose(0, 1)[None] for x in tensors]
    expected = flex_attention(*heads_first, block_mask=block_mask(plan), enable_gqa=True)[0].transpose(0, 1)
    assert_matches(cross_modal_attention(*tensors, plan), expected, depth=DEPTH)


def test_the_mask_is_the_one_a_loop_over_tokens_finds():
    """The definition in Python, one pair at a time."""
    layout = random_layout(0, lengths=(13, 9), run=3, padding=2)
    policy = six_types()
    found = reference.visible(attention_plan(layout, policy))
    sample, modality, position = (getattr(layout, name).tolist() for name in ("sample", "modality", "position"))
    for kind, table in enumerate(policy.visibility):
        for q in range(len(layout)):
            for k in range(len(layout)):
                entry = table[modality[q]][modality[k]]
                seen = entry == 1 or (entry == 2 and position[q] >= position[k])
                assert bool(found[kind, q, k]) == (seen and sample[q] == sample[k] >= 0)


@pytest.mark.parametrize("run", [1, 16])
def test_sorted_and_packed_order_give_the_same_result(backend, run):
    layout = random_layout(2, run=run, padding=3)
    results_by_order = []
    for order in ("packed", "sorted"):
        plan = attention_plan(layout, six_types(), order=order)
        call = functools.partial(cross_modal_attention, plan=plan, return_lse=True)
        results_by_order.append(results(call, random_qkv(plan)))
    live = results_by_order[1][1].isfinite()
    assert torch.equal(live, results_by_order[0][1].isfinite())
    assert_all_match(*results_by_order)


def test_exact_and_bit_masks_give_the_same_bits(backend):
    layout = random_layout(4, lengths=(43, 300, 60))
    plans = [attention_plan(x, six_types(), order="packed") for x in (layout, unknown(layout))]
    assert [plan.exact for plan in plans] == [False, True]
    tensors = random_qkv(plans[0])
    first, second = (results(functools.partial(cross_modal_attention, plan=plan), tensors) for plan in plans)
    assert all(same_bits(a, b) for a, b in zip(first, second, strict=True))


def test_a_query_that_sees_nothing_gives_zeros_and_an_lse_of_minus_infinity(backend):
    """Cross heads in samples of one modality; an upstream gradient of inf for that lse does no harm."""
    layout = ModalityLayout.from_runs([0, 1, 0], [60, 90, 30], [0, 1, 1])
    plan = attention_plan(layout, AttentionPolicy.of(["cross", "full"], n_modality=2))
    q, k, v = random_qkv(plan, key_heads=1)
    out, lse, grad_q, *_ = results(
        lambda q, k, v: cross_modal_attention(q, k, v, plan, return_lse=True),
        [q, k, v],
        [torch.ones(180, 2, 32), torch.full((2, 180), float("inf")).index_fill_(1, torch.arange(60, 180), 0.0)],
    )
    assert (out[:60, 0] == 0).all()
    assert (lse[0, :60] == -torch.inf).all()
    assert lse[0, 60:].isfinite().all()
    assert (grad_q[:60, 0] == 0).all()
    assert not grad_q[60:].isnan().any()


def test_the_op_s_own_lse_is_to_base_two_and_plus_infinity_for_dead_rows(backend):
    """What backward of any backend may count on."""
    layout = ModalityLayout.from_runs([0, 1, 0], [60, 90, 30], [0, 1, 1])
    plan = attention_plan(layout, AttentionPolicy.of(["cross", "full"], n_modality=2))
    q, k, v = random_qkv(plan, key_heads=1)
    _, lse = reference.cross_modal_attention(q.double(), k.double(), v.double(), plan, return_lse=True)
    flags = (plan.causal, plan.exact, plan.reordered)
    out, lse2 = torch.ops.lisa.cross_modal_attention_fwd(q, k, v, *plan.tensors, 32**-0.5, *flags)
    assert (out.is_contiguous(), lse2.is_contiguous(), lse2.dtype) == (True, True, torch.float32)
    assert_matches(lse2, torch.where(lse == -torch.inf, torch.inf, lse / math.log(2)), depth=DEPTH)


def test_the_lse_of_two_halves_of_the_keys_merges_to_the_whole(backend):
    """And so do the gradients: lse is differentiable."""
    layout = random_layout(1, lengths=(100, 120))
    half = [ModalityLayout(layout.modality, torch.where(layout.sample == s, s, -1)) for s in (0, 1)]
    both = ModalityLayout(layout.modality, torch.zeros(220).int())
    as_one = [ModalityLayout(x.modality, torch.where(x.sample >= 0, 0, -1)) for x in half]
    policy = AttentionPolicy.of(["full", "cross"], n_modality=3)
    whole = attention_plan(both, policy)
    parts = [attention_plan(both, policy, keys) for keys in as_one]

    def merged(q, k, v):
        outs, lses = zip(*[cross_modal_attention(q, k, v, plan, return_lse=True) for plan in parts], strict=True)
        total = torch.logaddexp(*lses)
        weights = [(lse - total).exp().t()[:, :, None] for lse in lses]
        return sum(out * weight for out, weight in zip(outs, weights, strict=True)), total

    tensors = random_qkv(whole)
    got = results(merged, tensors)
    expected = results(
        lambda q, k, v: reference.cross_modal_attention(q, k, v, whole, return_lse=True), [x.double() for x in tensors]
    )
    assert_all_match(got, expected)


def test_a_loss_of_the_lse_alone_and_of_the_output_alone_add_up(backend):
    """The gradient of an output that nobody used counts as zero."""
    plan = attention_plan(random_layout(0, lengths=(70, 60)), AttentionPolicy.of(["full", "causal"], n_modality=3))
    leaves = [x.requires_grad_() for x in random_qkv(plan)]
    out, lse = cross_modal_attention(*leaves, plan, return_lse=True)
    alone = [torch.autograd.grad(part.sum(), leaves, retain_graph=True, allow_unused=True) for part in (out, lse)]
    together = torch.autograd.grad(out.sum() + lse.sum(), leaves)
    for a, b, whole in zip(*alone, together, strict=True):
        assert_matches(a + (0 if b is None else b), whole.double(), depth=DEPTH)


def test_shared_positions_let_an_image_see_itself_whole_in_causal_heads(backend):
    layout = ModalityLayout.from_runs([0, 1, 0], [30, 50, 20], [0, 0, 0], bidirectional=[1])
    plan = attention_plan(layout, AttentionPolicy.of(["causal"], n_modality=2))
    rows = torch.arange(100)
    mask = rows[:, None] >= rows
    mask[30:80, 30:80] = True
    assert torch.equal(reference.visible(plan)[0], mask)
    tensors = random_qkv(plan, key_heads=1)
    heads_first = [x.double().transpose(0, 1) for x in tensors]
    expected = F.scaled_dot_product_attention(*heads_first, attn_mask=mask).transpose(0, 1)
    assert_matches(cross_modal_attention(*tensors, plan), expected, depth=DEPTH)


def test_a_padded_batch_gives_what_the_same_samples_packed_give(backend):
    generator = torch.Generator().manual_seed(0)
    modality = torch.randint(0, 3, (2, 80), generator=generator)
    mask = torch.arange(80) < torch.tensor([[80], [50]])
    policy = six_types()
    padded = attention_plan(ModalityLayout.from_padded(modality, mask), policy)
    real = mask.flatten().nonzero()[:, 0]
    packed = attention_plan(
        ModalityLayout.from_cu_seqlens(modality.flatten()[real], torch.tensor([0, 80, 130])), policy
    )
    tensors = random_qkv(padded)
    got = cross_modal_attention(*tensors, padded)
    assert_matches(got[real], cross_modal_attention(*[x[real] for x in tensors], packed).double(), depth=DEPTH)
    assert (got[~mask.flatten()] == 0).all()


def test_one_query_a_sample_equals_the_last_row_of_the_whole(backend):
    """Generation: the last token against all keys of its sample."""
    layout = random_layout(0, lengths=(50, 90, 70))
    last = torch.tensor([49, 139, 209])
    queries = ModalityLayout(layout.modality[last], layout.sample[last], layout.position[last])
    whole, step = attention_plan(layout, six_types()), attention_plan(queries, six_types(), layout)
    q, k, v = random_qkv(whole)
    expected = cross_modal_attention(q, k, v, whole)[last]
    assert_matches(cross_modal_attention(q[last], k, v, step), expected.double(), depth=DEPTH)


def test_scale_multiplies_the_scores(backend):
    plan = attention_plan(random_layout(0, lengths=(60,)), six_types())
    q, k, v = random_qkv(plan)
    expected = reference.cross_modal_attention(q.double() * 3, k.double(), v.double(), plan)
    assert_matches(cross_modal_attention(q, k, v, plan, scale=3 * 32**-0.5), expected, depth=DEPTH)


def test_autocast_casts_queries_keys_and_values(backend):
    """And their gradients come back in their own dtype; two dtypes that autocast makes one are no error."""
    plan = attention_plan(random_layout(0, lengths=(60,)), six_types())
    q, k, v = random_qkv(plan)
    leaves = [q.requires_grad_(), k.bfloat16().requires_grad_(), v.requires_grad_()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = cross_modal_attention(*leaves, plan)
    assert same_bits(out, cross_modal_attention(*[x.bfloat16() for x in leaves], plan))
    out.sum().backward()
    assert [x.grad.dtype for x in leaves] == [torch.float32, torch.bfloat16, torch.float32]


def test_fp64_runs_on_the_reference_backend_and_its_gradients_are_right():
    plan = attention_plan(random_layout(0, lengths=(6, 5), run=2), six_types())
    leaves = [x.requires_grad_() for x in random_qkv(plan, dtype=torch.float64)]
    with lisa_kernels.use_backend("reference"):
        # The fast form: one random direction for each input, not one call for each of 2400 elements.
        assert torch.autograd.gradcheck(lambda *x: cross_modal_attention(*x, plan), leaves, fast_mode=True)


def test_the_definition_passes_gradcheck_twice():
    """Dead rows included; lse where it is finite."""
    layout = ModalityLayout.from_runs([0, 1, 0], [3, 2, 2], [0, 0, 1])
    plan = attention_plan(layout, AttentionPolicy.of(["cross", "causal"], n_modality=2))
    leaves = [x.requires_grad_() for x in random_qkv(plan, key_heads=1, width=3, dtype=torch.float64)]

    def function(*tensors):
        out, lse = reference.cross_modal_attention(*tensors, plan, return_lse=True)
        return out, torch.where(lse == -torch.inf, 0, lse)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_fifty_packings_need_no_new_compilation_once_two_sizes_were_met(backend):
    """The first call compiles for its sizes, one of other sizes for any of two tiles and more: torch keeps 1 apart."""
    torch._dynamo.reset()
    compilations = []

    def count(graph, inputs):
        compilations.append(len(inputs))
        return graph.forward

    function = torch.compile(
        lambda q, k, v, plan: cross_modal_attention(q, k, v, plan) * 2, backend=count, fullgraph=True
    )
    generator = torch.Generator().manual_seed(0)
    random_lengths = [torch.randint(44, 120, (n % 4 + 3,), generator=generator).tolist() for n in range(50)]
    for seed, lengths in enumerate([[100] * 4, [150] * 5, *random_lengths]):
        plan = attention_plan(random_layout(seed, lengths=lengths), six_types(), order="packed")
        tensors = random_qkv(plan)
        got = function(*tensors, plan)
        if seed % 10 == 0:
            assert same_bits(got, cross_modal_attention(*tensors, plan) * 2)
    assert len(compilations) == 2


def test_a_plan_survives_saving_of_an_exported_program(tmp_path):
    plan = attention_plan(random_layout(0, lengths=(70, 90)), six_types(), order="packed")
    tensors = random_qkv(plan)

    class Module(torch.nn.Module):
        def forward(self, q, k, v, plan):
            return cross_modal_attention(q, k, v, plan)

    program = torch.export.export(Module(), (*tensors, plan))
    torch.export.save(program, tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2").module()
    with lisa_kernels.use_backend("reference"):
        assert same_bits(loaded(*tensors, plan), cross_modal_attention(*tensors, plan))


def test_a_plan_made_in_inference_mode_leaves_nothing_behind_for_training():
    """Kept tensors of a policy that were inference tensors could not be saved for backward."""
    policy = AttentionPolicy.of(["full", "within", "full"], n_modality=3)
    with torch.inference_mode():
        attention_plan(random_layout(0), policy)
    plan = attention_plan(random_layout(0), policy)
    leaves = [x.requires_grad_() for x in random_qkv(plan, key_heads=1)]
    cross_modal_attention(*leaves, plan).sum().backward()
    assert leaves[0].grad.isfinite().all()


def test_explain_names_the_backend_that_runs():
    inputs = make_inputs(SPEC, SPEC.cases[0], torch.float32)
    assert lisa_kernels.explain("cross_modal_attention", **inputs).chosen in BACKENDS


@pytest.mark.parametrize("case", [*SPEC.cases, *SPEC.edges], ids=lambda case: case.name)
def test_the_spec_counts_the_pairs_that_are_seen(case):
    """By samples and positions, without a mask; shared positions included."""
    plan = problems.make_plan(case, torch.device("cpu"))
    assert problems.count_visible(case) == int(reference.visible(plan)[list(plan.policy.head_type)].sum())


@pytest.mark.parametrize("case", [*SPEC.cases, *SPEC.edges, *SPEC.bench], ids=lambda case: case.name)
def test_a_case_on_the_meta_device_is_the_case_of_the_cpu(case):
    """Offline compilation makes its inputs there: the same shapes and flags, forward and backward run."""
    inputs = make_inputs(SPEC, case, torch.float32, "meta")
    meta, real = inputs["plan"], problems.make_plan(case, torch.device("cpu"))
    assert [x.shape for x in meta.tensors] == [x.shape for x in real.tensors]
    assert (meta.causal, meta.exact, meta.reordered) == (real.causal, real.exact, real.reordered)
    outputs = SPEC.function(**inputs | {name: inputs[name].requires_grad_() for name in "qkv"})
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = torch.autograd.grad([x.sum() for x in outputs], [inputs[name] for name in "qkv"])
    assert [grad.shape for grad in grads] == [inputs[name].shape for name in "qkv"]


def test_a_case_without_lse_has_no_query_that_sees_one_key():
    """Its weight is 1 whatever q holds: the judge would ask for a gradient of exactly 0, and rounding leaves some."""
    for case in (*SPEC.cases, *SPEC.edges):
        plan = problems.make_plan(case, torch.device("cpu"))
        keys = reference.visible(plan)[list(plan.policy.head_type)].sum(2)
        assert case.options.get("return_lse") or not (keys == 1).any(), case.name


def test_the_spec_s_work_of_a_dense_batch_is_fourteen_times_the_width_for_a_pair():
    case = next(case for case in SPEC.bench if case.name == "dense causal")
    assert SPEC.flops(case) == 14 * 64 * 8 * 2 * (2048 * 2049 / 2)


def test_cases_of_the_bench_are_as_large_as_they_say():
    tokens = {case.name: len(problems.make_layouts(case)[0]) for case in SPEC.bench}
    assert all(3000 <= count <= 5000 for name, count in tokens.items() if "a sample" not in name and "over" not in name)
    assert tokens["one query a sample"] == 16
