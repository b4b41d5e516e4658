"""``attention_plan``: tables and lists against the definition on random layouts; planted faults must be seen."""

import dataclasses

import pytest
import torch

from lisa_kernels import AttentionPolicy, ModalityLayout, attention_plan
from lisa_kernels.ops.attention import plan as plan_module
from lisa_kernels.ops.attention.tile_lists import TILE
from tests.ops.attention_problems import block_mask, faults, random_layout, six_types, unknown

LAYOUTS = {
    "four samples": {},
    "runs of one token": {"run": 1},
    "long runs": {"run": 150, "lengths": (600, 500)},
    "padding": {"padding": 9, "lengths": (50, 200, 44, 130)},
    "many short samples": {"lengths": (5,) * 70, "run": 3},
    "samples of 43 tokens": {"lengths": (43,) * 20, "run": 15},
    "one token": {"lengths": (1,)},
    "no token": {"lengths": ()},
    "full tiles": {"lengths": (128, 256, 128), "run": 200},
}


@pytest.fixture(autouse=True)
def _single_thread(single_thread):
    """Tiny tensors."""


@pytest.mark.parametrize("order", ["packed", "sorted"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", LAYOUTS)
def test_lists_and_words_give_the_defined_mask_in_both_directions(name, seed, order):
    layout = random_layout(seed, **LAYOUTS[name])
    assert not faults(attention_plan(layout, six_types(), order=order))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["packed", "sorted"])
def test_other_keys_give_the_defined_mask(seed, order):
    """Samples without keys, keys without queries, other lengths."""
    queries = random_layout(seed, lengths=(70, 0, 200, 90))
    keys = random_layout(seed + 10, lengths=(0, 60, 300, 45, 50))
    plan = attention_plan(queries, six_types(), keys, order=order)
    assert not faults(plan)
    assert plan.tokens_k.shape[1] == TILE * plan.lists_k.shape[1] != plan.tokens_q.shape[1]


@pytest.mark.parametrize("n_modality", [1, 2, 4, 5, 32])
def test_any_number_of_modalities_gives_the_defined_mask(n_modality):
    """Random tables of NONE, FULL and CAUSAL."""
    generator = torch.Generator().manual_seed(n_modality)
    tables = torch.randint(0, 3, (3, n_modality, n_modality), generator=generator)
    plan = attention_plan(
        random_layout(1, n_modality=n_modality, run=7), AttentionPolicy(tables.tolist(), [0, 2, 1, 0])
    )
    assert plan.exact == (n_modality > 4)
    assert not faults(plan)


@pytest.mark.parametrize("order", ["packed", "sorted"])
def test_bits_and_exact_ids_decide_the_same(order):
    layout = random_layout(3, lengths=(43, 50, 400, 90, 44, 43, 45))
    bits, exact = (attention_plan(x, six_types(), order=order) for x in (layout, unknown(layout)))
    assert (bits.exact, exact.exact) == (False, True)
    assert not faults(bits)
    assert not faults(exact)
    assert torch.equal(bits.lists_q, attention_plan(layout, six_types(), order=order).lists_q)


@pytest.fixture
def bounds_from_the_first_tile(monkeypatch):
    """Few tiles are listed without a bound; the tests of bounds need not be large for that."""
    monkeypatch.setattr(plan_module, "_FEW_TILES", 0)


@pytest.mark.usefixtures("bounds_from_the_first_tile")
def test_a_bound_on_the_longest_sample_gives_the_same_lists_in_less_memory():
    layout = random_layout(5, lengths=(100,) * 30, run=30)
    bound, free = (attention_plan(x, six_types(), order="packed") for x in (layout, unknown(layout)))
    assert bound.lists_q.shape[2] == 2 + 3 < free.lists_q.shape[2] == 2 + 24
    for name in ("lists_q", "lists_k"):
        wide, narrow = getattr(free, name), getattr(bound, name)
        assert torch.equal(wide[..., :5], narrow)
        assert not wide[..., 5:].any()
    assert torch.equal(bound.order_q, free.order_q)


def test_few_tiles_are_listed_without_a_bound():
    few, more = (attention_plan(random_layout(5, lengths=(128,) * n), six_types(), order="packed") for n in (64, 65))
    assert (few.lists_q.shape[2], more.lists_q.shape[2]) == (2 + 64, 2 + 3)


@pytest.mark.usefixtures("bounds_from_the_first_tile")
@pytest.mark.parametrize("longest", [2, 127, 128, 129, 130, 256, 257, 258])
def test_the_bound_holds_where_samples_just_straddle_tiles(longest):
    for shift in (0, 1, 126):
        layout = random_layout(longest, lengths=(shift, *(longest,) * 5), run=64)
        assert not faults(attention_plan(layout, six_types()))


PLANTED = {
    "a tile is listed twice": lambda plan: first_entry(plan, plan.lists_q[0, 0, 3]),
    "both directions agree": lambda plan: shorter(plan, "lists_k"),
    "lists are in order": lambda plan: swapped(plan),
    "skipped tiles hold nothing seen": lambda plan: shorter(plan, "lists_q"),
    "full tiles are seen whole": lambda plan: all_full(plan),
    "words of queries decide": lambda plan: strict_causal(plan, 1),
    "words of keys decide": lambda plan: strict_causal(plan, 3),
    "queries are in order": lambda plan: dataclasses.replace(plan, order_q=plan.order_q.flip(0)),
    "keys are in order": lambda plan: dataclasses.replace(plan, order_k=plan.order_k.flip(0)),
}


def edited(plan, name):
    return dataclasses.replace(plan, **{name: getattr(plan, name).clone()})


def first_entry(plan, tile):
    plan = edited(plan, "lists_q")
    plan.lists_q[0, 0, 2] = tile
    return plan


def shorter(plan, name):
    """The last tile of the longest list left out: a stale half of a list."""
    plan = edited(plan, name)
    lists = getattr(plan, name)
    lists[0, lists[0, :, 1].argmax(), 1] -= 1
    return plan


def swapped(plan):
    plan = edited(plan, "lists_q")
    plan.lists_q[0, 1, 2:4] = plan.lists_q[0, 1, 2:4].flip(0)
    return plan


def all_full(plan):
    plan = edited(plan, "lists_q")
    plan.lists_q[..., 0] = 0
    return plan


def strict_causal(plan, row):
    """Causal keys seen where they are later."""
    plan = edited(plan, "words")
    plan.words[:, row] = plan.words[:, row - 1]
    return plan


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_of_a_plan_is_seen(fault):
    plan = attention_plan(random_layout(0), six_types())
    assert not faults(plan)
    assert fault in faults(PLANTED[fault](plan))


def test_a_position_table_that_is_off_by_one_is_seen():
    plan = edited(attention_plan(random_layout(0), six_types()), "tokens_k")
    plan.tokens_k[1] += 1
    assert "words of queries decide" in faults(plan)


def test_a_slot_table_that_repeats_a_token_is_seen():
    plan = edited(attention_plan(random_layout(0), six_types(), order="sorted"), "tokens_q")
    plan.tokens_q[4, 3] = plan.tokens_q[4, 4]
    assert "slots hold each token once" in faults(plan)


def test_bits_without_the_promise_they_need_are_seen():
    """Eleven samples in a tile share 8 slots: only sample ids tell them apart."""
    layout = random_layout(0, lengths=(11,) * 30)
    plan = attention_plan(layout, six_types(), order="packed")
    assert plan.exact
    assert not faults(plan)
    layout.packing = dataclasses.replace(layout.packing, min_sample=43)
    assert "words of queries decide" in faults(attention_plan(layout, six_types(), order="packed"))


def test_a_plan_of_16k_tokens_and_4_types_needs_less_than_six_tenths_of_a_mebibyte():
    """Nothing known of the samples: both directions, tables included."""
    layout = unknown(random_layout(0, lengths=(4096,) * 4, run=300))
    policy = AttentionPolicy.of(["within", "cross", "causal", "prefix_lm"] * 2, n_modality=3, prefix=(1,))
    for order in ("packed", "sorted"):
        assert attention_plan(layout, policy, order=order).nbytes <= 0.6 * 2**20


def test_memory_grows_linearly_once_the_longest_sample_is_known():
    small, large = (
        attention_plan(random_layout(0, lengths=(1000,) * n, run=300), six_types()).nbytes for n in (20, 80)
    )
    assert large < 4.05 * small


@pytest.mark.parametrize("order", ["auto", "packed", "sorted"])
def test_a_plan_is_built_without_looking_at_the_device(order):
    """Meta tensors hold no values: any look at one raises."""
    modality = torch.zeros(300, dtype=torch.int64, device="meta")
    layouts = [
        ModalityLayout(modality, modality, min_sample=64, max_sample=100),
        ModalityLayout(modality, modality, modality),
        ModalityLayout.from_cu_seqlens(modality, torch.zeros(5, dtype=torch.int32, device="meta"), min_sample=50),
        ModalityLayout.from_padded(modality.view(3, 100), torch.ones(3, 100, dtype=torch.bool, device="meta")),
    ]
    plans = [attention_plan(layout, six_types(), order=order) for layout in layouts]
    plans += [attention_plan(layouts[0], six_types(), layouts[1], order=order)]
    assert [plan.exact for plan in plans] == [False, True, False, order == "sorted", True]
    assert {plan.lists_q.shape for plan in plans[1:3]} == {(6, 3, 5)}
    assert plans[0].lists_q.device.type == "meta"


def test_ids_out_of_range_on_a_device_are_padding():
    """A CPU plan would raise: the layout is made to look like one that was never checked."""
    layout = random_layout(0)
    modality, sample = layout.modality.clone(), layout.sample.clone()
    modality[10], modality[20], sample[30] = 3, -1, -7

    class OnDevice(ModalityLayout):
        device = torch.device("cuda")

    wrong = OnDevice.__new__(OnDevice)
    wrong.modality, wrong.sample, wrong.position = modality, sample, layout.position
    tokens, _ = plan_module._tokens(wrong, six_types(), True, False)
    assert tokens[0, [10, 20, 30]].tolist() == [0, 0, 0]
    assert tokens[2, [10, 20, 30]].tolist() == [-1, -1, -1]
    assert tokens[3, [10, 20, 30]].tolist() == [32, 32, 32]


def test_torch_s_defaults_and_autocast_change_nothing():
    """Tiles are judged by counts in fp32: autocast would round them, which must not matter."""

    def made():
        plan_module._kept_policy_tensors.cache_clear()
        layout = ModalityLayout.from_runs([0, 1, 0, 2], [60, 180, 70, 40], [0, 0, 1, 1], bidirectional=[1])
        return attention_plan(layout, AttentionPolicy.of(["full", "within", "cross-causal"], n_modality=3)).tensors

    expected, default = made(), torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        wide = made()
    finally:
        torch.set_default_dtype(default)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = made()
    with torch.device("meta"):
        elsewhere = made()
    for other in (wide, half, elsewhere):
        assert all(torch.equal(a, b) for a, b in zip(expected, other, strict=True))


@pytest.mark.parametrize(
    ("run", "heads", "reordered"),
    [
        (16, ["within", "cross"], True),
        (16, ["within", "causal", "cross"], True),
        (16, ["causal", "causal", "within"], False),
        (16, ["full", "within"], False),
        (400, ["within", "cross"], False),
    ],
)
def test_automatic_order_sorts_short_runs_for_heads_that_look_at_modalities(run, heads, reordered):
    layout = random_layout(0, lengths=(1200,) * 2, run=run)
    policy = AttentionPolicy.of(heads, n_modality=3)
    assert attention_plan(layout, policy).reordered == reordered
    assert not attention_plan(unknown(layout), policy).reordered


def test_sorting_interleaved_tokens_visits_fewer_tiles():
    layout = random_layout(0, lengths=(1500,) * 2, run=8)
    policy = AttentionPolicy.of(["within", "cross"], n_modality=3)
    packed, by_modality = (attention_plan(layout, policy, order=order).lists_q for order in ("packed", "sorted"))
    assert (by_modality[..., 1].sum(1) < packed[..., 1].sum(1)).all()
    assert packed[0, :, 0].sum() == packed[0, :, 1].sum(), "packed, every tile needs the mask"
    assert by_modality[1, :, 0].sum() < by_modality[1, :, 1].sum() / 2


@pytest.mark.parametrize(
    "sizes", [{"lengths": (300, 500, 700), "run": 200}, {"lengths": (1500,), "run": 10}, {"lengths": (100,) * 14}]
)
def test_no_more_than_a_tenth_of_the_tiles_visited_could_be_skipped(sizes):
    """FlexAttention looks at every pair of tokens; a plan at summaries of tiles."""
    plan = attention_plan(random_layout(0, **sizes), six_types(), order="packed")
    exact, lists = block_mask(plan), plan.lists_q[plan.head_type.long()]
    full = exact.full_kv_num_blocks[0]
    visited = exact.kv_num_blocks[0] + full
    assert torch.equal(lists[..., 1] - lists[..., 0], full)
    assert (lists[..., 1] >= visited).all()
    assert lists[..., 1].sum() <= 1.1 * visited.sum()


def test_a_description_shows_every_type_and_its_tiles():
    plan = attention_plan(random_layout(0, lengths=(256, 256), run=600), six_types())
    text = str(plan.describe())
    assert "512 queries x 512 keys, 6 heads of 6 types" in text
    assert "type 0 (heads 0): 50.0% of tiles visited, 100% of these without a mask" in text
    assert "██··\n██··\n··██\n··██" in text
    assert text.count("type ") == 6


def test_a_description_of_many_tiles_stays_narrow_and_shows_masked_tiles():
    plan = attention_plan(random_layout(0, lengths=(5000,) * 6, run=3000), six_types())
    lines = str(plan.describe()).splitlines()
    assert max(map(len, lines)) <= 120
    assert any("▒" in line and "█" in line for line in lines[4:])


def test_a_description_draws_a_picture_for_each_type():
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install matplotlib")
    plan = attention_plan(random_layout(0), six_types())
    figure = plan.describe().draw()
    shown = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    assert shown[0].shape == (plan.lists_q.shape[1], plan.lists_k.shape[1])
    assert all((image == state.numpy()).all() for image, state in zip(shown, plan.describe().states, strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda layout, policy: (layout.sample, policy), TypeError, "layout is Tensor"),
        (lambda layout, policy: (layout, policy.visibility), TypeError, "policy is tuple"),
        (lambda layout, policy: (layout, policy, layout.sample), TypeError, "layout_k is Tensor"),
        (lambda layout, policy: (layout, policy, layout.to("meta")), ValueError, "layout_k is on meta"),
    ],
)
def test_bad_arguments_of_a_plan_are_named(arguments, error, message):
    with pytest.raises(error, match=f"attention_plan: {message}"):
        attention_plan(*arguments(random_layout(0), six_types()))


def test_a_modality_that_the_policy_does_not_have_is_named():
    with pytest.raises(ValueError, match="attention_plan: layout has modality 2; it takes 0 to 1"):
        attention_plan(random_layout(0), AttentionPolicy.of(["within"], n_modality=2))


def test_an_unknown_order_is_named():
    with pytest.raises(ValueError, match="attention_plan: order is 'random'; it takes 'auto' or 'packed' or 'sorted'"):
        attention_plan(random_layout(0), six_types(), order="random")


def test_positions_that_fall_within_a_modality_are_refused_for_causal_heads_only():
    """Counted anew in each run, they would let early runs see late ones."""
    layout = ModalityLayout(torch.tensor([0, 0, 1, 1, 0, 0]), torch.zeros(6).int(), torch.tensor([0, 1, 0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"attention_plan: layout\.position decreases within a modality"):
        attention_plan(layout, six_types())
    attention_plan(layout, AttentionPolicy.of(["within"], n_modality=3))
