"""``CrossModalAttention``, ``MultiheadAttention`` and ``RotaryPositions``."""

import pytest
import torch
from torch import nn

from lisa_kernels import AttentionPolicy, ModalityLayout, attention_plan
from lisa_kernels.nn import CrossModalAttention, MultiheadAttention, RotaryPositions
from lisa_kernels.ops.attention import reference
from lisa_kernels.testing import assert_matches, same_bits

POLICY = AttentionPolicy.of(["within", "cross", "within", "cross-causal"], n_modality=2)
LAYOUT = ModalityLayout.from_runs([0, 1, 0, 1], [30, 40, 20, 25], [0, 0, 1, 1])
DEPTH = 2000


@pytest.fixture(autouse=True)
def _fixed(single_thread):
    torch.manual_seed(0)


def tokens(count=115, width=128):
    return torch.randn(count, width)


def by_hand(module, x, plan, context=None, encode=None):
    """The module written out with the definition, gates as factors of heads."""
    source = x if context is None else context
    q = module.query(x).view(len(x), module.heads, -1)
    k, v = module.key_value(source).view(len(source), 2, module.kv_heads, -1).unbind(1)
    if encode is not None:
        q, k = encode(q, k)
    out = reference.cross_modal_attention(q, k, v, plan)
    if module.gate is not None:
        factor = torch.ones(module.heads, dtype=x.dtype)
        factor[[1, 3]] = module.gate.tanh()
        out = out * factor[:, None]
    return module.out(out.flatten(1))


def test_the_module_is_projections_around_the_op():
    module, plan, x = CrossModalAttention(128, 4, POLICY, bias=True), attention_plan(LAYOUT, POLICY), tokens()
    with torch.no_grad():
        module.gate.copy_(torch.tensor([0.5, -2.0]))
    assert_matches(module(x, plan), by_hand(module.double(), x.double(), plan), depth=DEPTH)


def test_gated_cross_heads_start_as_the_module_without_them():
    """And learn: the gate's gradient is not zero where everything else of these heads still has none."""
    module, plan, x = CrossModalAttention(128, 4, POLICY), attention_plan(LAYOUT, POLICY), tokens()
    assert module.gate.tolist() == [0.0, 0.0]
    silent = module(x, plan)
    with torch.no_grad():
        module.out.weight.view(128, 4, 32)[:, [1, 3]] = 7.0
    assert same_bits(module(x, plan), silent)
    module(x, plan).square().sum().backward()
    assert (module.gate.grad != 0).all()
    assert (module.query.weight.grad.view(4, 32, 128)[[1, 3]] == 0).all()
    assert (module.query.weight.grad.view(4, 32, 128)[[0, 2]] != 0).any()


def test_gates_get_the_gradient_of_factors_of_heads():
    module, plan, x = CrossModalAttention(128, 4, POLICY), attention_plan(LAYOUT, POLICY), tokens()
    with torch.no_grad():
        module.gate.fill_(0.3)
    module(x, plan).square().sum().backward()
    got = module.gate.grad.clone()
    wide = module.double()
    wide.zero_grad()
    by_hand(wide, x.double(), plan).square().sum().backward()
    assert_matches(got, wide.gate.grad, depth=DEPTH)


def test_only_cross_heads_have_gates_and_only_if_asked():
    assert CrossModalAttention(128, 4, POLICY, gate=False).gate is None
    plain = AttentionPolicy.of(["full", "within", "causal", "full"], n_modality=2)
    assert CrossModalAttention(128, 4, plain).gate is None
    assert "cross_heads" not in CrossModalAttention(128, 4, POLICY).state_dict()


def test_fewer_key_heads_other_widths_and_other_keys():
    keys = ModalityLayout.from_runs([1, 0], [50, 33], [0, 1])
    plan, x, context = attention_plan(LAYOUT, POLICY, keys), tokens(width=72), tokens(83, 48)
    module = CrossModalAttention(72, 4, POLICY, kv_heads=2, head_dim=40, context_dim=48)
    assert module.key_value.weight.shape == (2 * 2 * 40, 48)
    got = module(x, plan, context=context)
    assert_matches(got, by_hand(module.double(), x.double(), plan, context.double()), depth=DEPTH)


def test_positions_are_applied_to_queries_and_keys_by_the_callable():
    module, plan, x = CrossModalAttention(128, 4, POLICY, gate=False), attention_plan(LAYOUT, POLICY), tokens()
    encode = RotaryPositions(32).at(LAYOUT.position)
    got = module(x, plan, encode=encode)
    assert_matches(got, by_hand(module.double(), x.double(), plan, encode=encode), depth=DEPTH)
    assert not torch.equal(got, module.float()(x, plan))


def test_normalised_queries_and_keys_do_not_depend_on_the_size_of_tokens():
    module, plan, x = (
        CrossModalAttention(128, 4, POLICY, gate=False, qk_norm=True),
        attention_plan(LAYOUT, POLICY),
        tokens(),
    )
    with torch.no_grad():
        module.query.weight.mul_(64)
    loud = module(x, plan)
    with torch.no_grad():
        module.query.weight.div_(64)
    assert_matches(loud, module(x, plan).double(), depth=DEPTH)


def test_a_padded_batch_keeps_its_shape_and_its_samples_apart():
    mask = torch.arange(60) < torch.tensor([[60], [35]])
    modality = torch.randint(0, 2, (2, 60))
    plan = attention_plan(ModalityLayout.from_padded(modality, mask), POLICY)
    module, x = CrossModalAttention(128, 4, POLICY, gate=False), torch.randn(2, 60, 128)
    out = module(x, plan)
    assert out.shape == x.shape
    other = torch.cat([x[:1], torch.randn(1, 60, 128)])
    assert same_bits(module(other, plan)[0], out[0])


def test_the_module_compiles_into_one_graph_plan_included_as_input():
    torch._dynamo.reset()
    module, plan, x = CrossModalAttention(128, 4, POLICY), attention_plan(LAYOUT, POLICY), tokens()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert same_bits(compiled(x, plan), module(x, plan))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"policy": "within"}, TypeError, "policy is str"),
        ({"heads": 3}, ValueError, "heads is 3; the policy has 4"),
        ({"kv_heads": 3}, ValueError, "kv_heads is 3; it takes a divisor of heads, 4"),
        ({"dim": 130}, ValueError, "dim is 130; it takes a multiple of heads, 4"),
        ({"dropout": 0.1}, ValueError, "dropout is 0.1; it takes 0: the backward pass is deterministic"),
    ],
)
def test_bad_sizes_of_the_module_are_named(change, error, message):
    with pytest.raises(error, match=f"^CrossModalAttention: {message}"):
        CrossModalAttention(**{"dim": 128, "heads": 4, "policy": POLICY} | change)


def test_a_plan_of_another_policy_is_named():
    other = AttentionPolicy.of(["full"] * 4, n_modality=2)
    with pytest.raises(ValueError, match=r"^CrossModalAttention: plan has the policy"):
        CrossModalAttention(128, 4, POLICY)(tokens(), attention_plan(LAYOUT, other))


# MultiheadAttention


def pair(**options):
    ours = MultiheadAttention(64, 2, **options)
    torchs = nn.MultiheadAttention(64, 2, **options)
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs.double()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_it_equals_torch_s_module_with_its_state_dict(batch_first, bias):
    ours, torchs = pair(batch_first=batch_first, bias=bias)
    query, key, value = (torch.randn(3, length, 64) for length in (20, 33, 33))
    if not batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    expected, _ = torchs(query.double(), key.double(), value.double(), need_weights=False)
    got, weights = ours(query, key, value)
    assert weights is None
    assert_matches(got, expected, depth=DEPTH)


@pytest.mark.parametrize("lengths", [(20, 20), (20, 33), (33, 20)])
def test_causal_masks_and_padded_keys_are_torch_s(lengths):
    ours, torchs = pair(batch_first=True)
    query, key = (torch.randn(2, length, 64) for length in lengths)
    padding = torch.arange(lengths[1]) >= torch.tensor([[lengths[1]], [11]])
    causal = torch.ones(lengths, dtype=torch.bool).triu(1)
    expected, _ = torchs(
        query.double(), key.double(), key.double(), padding, need_weights=False, attn_mask=causal, is_causal=False
    )
    got, _ = ours(query, key, key, padding, attn_mask=causal, is_causal=True)
    assert_matches(got, expected, depth=DEPTH)


def test_tensors_without_a_batch_are_taken():
    ours, torchs = pair()
    x = torch.randn(20, 64)
    assert_matches(ours(x, x, x)[0], torchs(*[x.double()] * 3, need_weights=False)[0], depth=DEPTH)


def test_it_takes_the_place_of_torch_s_module_in_an_encoder_layer():
    layer = nn.TransformerEncoderLayer(64, 2, 128, dropout=0.0, batch_first=True)
    x, mask = torch.randn(2, 15, 64), nn.Transformer.generate_square_subsequent_mask(15)
    expected = layer.double()(x.double(), mask.double(), is_causal=True)
    layer.float()
    ours = MultiheadAttention(64, 2, batch_first=True)
    ours.load_state_dict(layer.self_attn.state_dict())
    layer.self_attn = ours
    assert_matches(layer(x, mask, is_causal=True), expected, depth=DEPTH)


def test_the_wrapper_compiles_into_one_graph_and_exports_its_plan_being_part():
    """And leaves nothing of a tracer behind for later calls."""
    torch._dynamo.reset()
    module, x = MultiheadAttention(64, 2, batch_first=True), torch.randn(2, 70, 64)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    program = torch.export.export(module, (x, x, x), {"is_causal": True}).module()
    expected = module(x, x, x, is_causal=True)[0]
    assert same_bits(compiled(x, x, x, is_causal=True)[0], expected)
    assert same_bits(program(x, x, x, is_causal=True)[0], expected)


def test_a_compiled_wrapper_takes_any_length_after_two():
    """Its plan is built inside: no number of it may bind the program to one length."""
    torch._dynamo.reset()
    compilations = []

    def count(graph, inputs):
        compilations.append(graph)
        return graph.forward

    module = MultiheadAttention(64, 2, batch_first=True).requires_grad_(False)
    compiled = torch.compile(module, fullgraph=True, backend=count)
    for length in (150, 290, 200, 260, 301):
        x = torch.randn(2, length, 64)
        assert same_bits(compiled(x, x, x)[0], module(x, x, x)[0])
    assert len(compilations) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"need_weights": True}, "need_weights is True"),
        ({"attn_mask": torch.zeros(5, 5)}, "attn_mask is a Tensor; it takes None"),
        ({"key_padding_mask": torch.zeros(1, 5)}, "key_padding_mask is torch.float32; it takes bool"),
    ],
)
def test_what_the_module_cannot_do_is_named(options, message):
    x = torch.randn(5, 1, 64)
    with pytest.raises(ValueError, match=f"^MultiheadAttention: {message}"):
        MultiheadAttention(64, 2)(x, x, x, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((65, 2), "embed_dim is 65"), ((64, 2, 0.1), "dropout is 0.1")],
)
def test_bad_sizes_of_the_wrapper_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^MultiheadAttention: {message}"):
        MultiheadAttention(*arguments)


# RotaryPositions


def test_rotation_multiplies_complex_pairs_by_unit_numbers():
    x, position = torch.randn(7, 3, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 5, 100, 1000, 4095])
    pairs = torch.complex(x[..., :4], x[..., 4:])
    angle = position[:, None].double() * 10_000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    turned = pairs * torch.polar(torch.ones_like(angle), angle)[:, None]
    got = RotaryPositions(8)(x.float(), position)
    # The angle itself is rounded: 4095 radians in fp32 are exact to 2e-4.
    assert_matches(got, torch.cat([turned.real, turned.imag], -1), depth=(4095 * 4) ** 2)
    assert same_bits(got[0], x[0].float())


def test_scores_depend_on_distances_alone():
    rotary = RotaryPositions(32)
    q, k = torch.randn(1, 1, 32), torch.randn(1, 1, 32)

    def score(a, b):
        return (rotary(q, torch.tensor([a])) * rotary(k, torch.tensor([b]))).sum()

    assert_matches(score(3, 10), score(103, 110).double(), depth=DEPTH)
    assert abs(score(3, 10) - score(3, 11)) > 1e-3


def test_axes_share_the_channels_and_equal_positions_are_one_axis():
    one, three = RotaryPositions(32), RotaryPositions(32, axes=(4, 6, 6))
    x, position = torch.randn(9, 2, 32), torch.arange(9)
    assert same_bits(three(x, position[:, None].expand(9, 3)), one(x, position))
    only_time = three(x, torch.stack([position, 0 * position, 0 * position], 1))
    moved = (only_time != x).view(9, 2, 2, 16).any(0).any(0).any(0)
    assert moved.tolist() == [True] * 4 + [False] * 12


def test_half_precision_keeps_its_dtype_and_the_angles_of_fp32():
    rotary, x = RotaryPositions(32).bfloat16(), torch.randn(3, 2, 32).bfloat16()
    position = torch.tensor([257, 1001, 3001])
    got = rotary(x, position)
    assert got.dtype == torch.bfloat16
    assert_matches(got, RotaryPositions(32)(x.float(), position).double(), half_roundings=2)


def test_other_positions_for_keys():
    rotary, q, k = RotaryPositions(32), torch.randn(4, 2, 32), torch.randn(6, 1, 32)
    a, b = rotary.at(torch.arange(4), torch.arange(6) * 2)(q, k)
    assert same_bits(a, rotary(q, torch.arange(4)))
    assert same_bits(b, rotary(k, torch.arange(6) * 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RotaryPositions(31), "head_dim is 31"),
        (lambda: RotaryPositions(32, axes=(8, 9)), r"axes is \(8, 9\); it takes numbers of pairs with the sum 16"),
        (lambda: RotaryPositions(32)(torch.zeros(3, 1, 16), torch.arange(3)), r"x has shape \(3, 1, 16\)"),
        (lambda: RotaryPositions(32)(torch.zeros(3, 1, 32), torch.arange(4)), r"position has shape \(4, 1\)"),
    ],
)
def test_bad_sizes_of_positions_are_named(make, message):
    with pytest.raises(ValueError, match=f"^RotaryPositions: {message}"):
        make()


def test_the_gate_s_fold_costs_no_pass_over_activations():
    """The product of gate and weight has the weight's size, whatever the number of tokens."""
    module = CrossModalAttention(128, 4, POLICY)
    assert module._gated_weight().shape == module.out.weight.shape
    assert (module._gated_weight()[:, 32:64] == 0).all()
