"""``ModalityLayout`` and ``AttentionPolicy``: every way to make one, what the host learns, and bad input."""

import pytest
import torch

from lisa_kernels import AttentionPolicy, ModalityLayout
from lisa_kernels.ops.attention.layout import Packing
from lisa_kernels.ops.attention.policy import CAUSAL, FULL, NONE


def tensors(*values):
    return [torch.tensor(value) for value in values]


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("modality", "sample", "position"))


def test_runs_become_tokens():
    layout = ModalityLayout.from_runs([0, 1, 0, 2], [2, 3, 0, 1], [0, 0, 1, 2])
    assert layout.modality.tolist() == [0, 0, 1, 1, 1, 2]
    assert layout.sample.tolist() == [0, 0, 0, 0, 0, 2]
    assert layout.position.tolist() == list(range(6))
    assert len(layout) == 6


def test_bidirectional_runs_share_the_position_of_their_start():
    layout = ModalityLayout.from_runs([0, 1, 0, 1], [2, 3, 1, 2], [0, 0, 0, 0], bidirectional=[1])
    assert layout.position.tolist() == [0, 1, 2, 2, 2, 5, 6, 6]


def test_offsets_runs_and_ids_make_the_same_layout():
    """An empty sample in the middle, and tokens behind the last offset: padding."""
    modality, offsets = tensors([0, 1, 1, 0, 2, 2, 0], [0, 3, 3, 6])
    layout = ModalityLayout.from_cu_seqlens(modality, offsets)
    assert layout.sample.tolist() == [0, 0, 0, 2, 2, 2, -1]
    assert same(layout, ModalityLayout(modality, layout.sample))
    assert same(layout, ModalityLayout.from_runs(modality.tolist(), [1] * 7, layout.sample.tolist()))


def test_a_padded_batch_keeps_its_tokens_in_place():
    modality, mask = tensors([[0, 1, 2], [2, 0, 0]], [[True, True, False], [False, True, True]])
    layout = ModalityLayout.from_padded(modality, mask)
    assert layout.sample.tolist() == [0, 0, -1, -1, 1, 1]
    assert layout.modality.tolist() == [0, 1, 2, 2, 0, 0]
    assert same(layout, ModalityLayout.from_padded(modality, mask.int()))
    assert ModalityLayout.from_padded(modality[0], mask).modality.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.uint8], ids=str)
def test_any_integer_dtype_is_taken(dtype):
    modality, sample = tensors([0, 1, 2], [0, 0, 1])
    assert same(ModalityLayout(modality.to(dtype), sample.to(dtype)), ModalityLayout(modality, sample))


@pytest.mark.parametrize(
    ("runs", "packing"),
    [
        (([0, 1, 0], [50, 60, 70], [0, 0, 1]), Packing(110, 70, 110, 3, True, 2)),
        (([0, 0, 0], [50, 5, 70], [0, -1, 1]), Packing(55, 50, 70, 2, True, 1)),
        (([0, 0], [50, 70], [0, 2]), Packing(0, 0, 70, 2, True, 1)),
        (([0], [50], [4]), Packing(2**31 - 1, 2**31 - 1, 50, 1, True, 1)),
        (([0, 0, 0], [5, 3, 5], [0, -1, 0]), Packing(2**31 - 1, 2**31 - 1, 13, 1, True, 1)),
        (([], [], []), Packing(2**31 - 1, 2**31 - 1, 0, 0, True, 0)),
    ],
    ids=["two samples", "padding between", "an id left out", "one sample", "padding inside", "nothing"],
)
def test_the_host_learns_sizes_from_cpu_tensors(runs, packing):
    assert ModalityLayout.from_runs(*runs).packing == packing


def test_what_the_host_knows_survives_a_move_and_promises_stand_in_for_it():
    layout = ModalityLayout.from_runs([0, 1], [50, 60], [0, 1], device="meta")
    assert layout.packing == Packing(50, 50, 60, 2, True, 2)
    assert layout.device.type == "meta"
    ids = torch.zeros(5, dtype=torch.int32, device="meta")
    assert ModalityLayout(ids, ids, min_sample=50, max_sample=70).packing == Packing(50, 50, 70, None, True)
    assert ModalityLayout(ids, ids, ids).packing == Packing()
    assert ModalityLayout.from_padded(ids[None], ids[None]).packing.min_sample == 5


def test_positions_may_fall_between_modalities_but_not_within_one():
    modality, sample, interleaved, restarted = tensors(
        [0, 0, 1, 1], [0, 0, 0, 0], [0, 2, 1, 3], [0, 2, 3, 1]
    )  # fmt: skip
    assert ModalityLayout(modality, sample, interleaved).packing.causal_order is True
    assert ModalityLayout(modality, sample, restarted).packing.causal_order is False
    assert ModalityLayout(modality, torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 0, 1])).packing.causal_order


GOOD = {"modality": torch.tensor([0, 1, 1, 0]), "sample": torch.tensor([0, 0, 1, 1])}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"modality": [0, 1, 1, 0]}, TypeError, "modality is list"),
        ({"modality": torch.zeros(4)}, TypeError, "modality is float32"),
        ({"sample": torch.zeros(4, dtype=torch.bool)}, TypeError, "sample is bool"),
        ({"modality": torch.zeros(2, 2).int()}, ValueError, r"modality has shape \(2, 2\)"),
        ({"modality": torch.zeros(3).int()}, ValueError, r"modality has shape \(3,\)"),
        ({"position": torch.zeros(3).int()}, ValueError, r"position has shape \(3,\)"),
        ({"position": torch.zeros(4).int().to("meta")}, ValueError, "position is on meta"),
        ({"sample": torch.tensor([0, 1, 0, 1])}, ValueError, r"sample\[2\] is 0 after 1; .* Sort the tokens by sample"),
        ({"sample": torch.tensor([1, -1, 0, 1])}, ValueError, r"sample\[2\] is 0 after 1"),
        ({"sample": torch.tensor([0, -2, 0, 1])}, ValueError, r"sample\[1\] is -2"),
        ({"modality": torch.tensor([0, -1, 1, 0])}, ValueError, r"modality\[1\] is -1"),
        ({"modality": torch.tensor([0, 32, 1, 0])}, ValueError, r"modality\[1\] is 32; it takes 0 to 31"),
        ({"min_sample": 3}, ValueError, "min_sample is 3; a sample has 2 tokens"),
        ({"max_sample": 1}, ValueError, "max_sample is 1; a sample takes 2 tokens"),
    ],
)
def test_bad_ids_are_named(change, error, message):
    with pytest.raises(error, match=f"^ModalityLayout: {message}"):
        ModalityLayout(**GOOD | change)


def test_what_padding_holds_does_not_matter():
    ModalityLayout(torch.tensor([0, -100, 99]), torch.tensor([0, -1, -1]))


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([1, 4], r"cu_seqlens\[0\] is 1"),
        ([0, 3, 2], r"cu_seqlens\[2\] is 2; .* before it stands 3"),
        ([0, 5], r"cu_seqlens\[-1\] is 5; modality has 4 tokens"),
        ([], "cu_seqlens is empty"),
    ],
)
def test_bad_offsets_are_named(offsets, message):
    with pytest.raises(ValueError, match=f"^ModalityLayout: {message}"):
        ModalityLayout.from_cu_seqlens(GOOD["modality"], torch.tensor(offsets, dtype=torch.int64))


def test_bad_runs_and_batches_are_named():
    with pytest.raises(ValueError, match=r"^ModalityLayout: samples has 1 runs; lengths has 2"):
        ModalityLayout.from_runs([0, 1], [1, 2], [0])
    with pytest.raises(ValueError, match=r"^ModalityLayout: lengths holds -1"):
        ModalityLayout.from_runs([0, 1], [1, -1], [0, 0])
    with pytest.raises(ValueError, match=r"^ModalityLayout: modality has shape \(2, 3\); it takes \(2, 2\)"):
        ModalityLayout.from_padded(torch.zeros(2, 3).int(), torch.ones(2, 2))


def test_presets_are_the_tables_they_are_named_after():
    heads = ["full", "causal", "within", "cross", "within-causal", "cross-causal", "prefix_lm"]
    policy = AttentionPolicy.of(heads, n_modality=2, prefix=[1])
    assert policy.head_type == tuple(range(7))
    assert policy.visibility == (
        ((FULL, FULL), (FULL, FULL)),
        ((CAUSAL, CAUSAL), (CAUSAL, CAUSAL)),
        ((FULL, NONE), (NONE, FULL)),
        ((NONE, FULL), (FULL, NONE)),
        ((CAUSAL, NONE), (NONE, CAUSAL)),
        ((NONE, CAUSAL), (CAUSAL, NONE)),
        ((CAUSAL, CAUSAL), (NONE, FULL)),
    )


def test_equal_heads_share_a_type_and_policies_can_be_compared():
    policy = AttentionPolicy.of(["within", "cross", "within"], n_modality=3)
    assert (policy.types, policy.heads, policy.n_modality, policy.causal) == (2, 3, 3, False)
    assert policy.head_type == (0, 1, 0)
    again = AttentionPolicy(torch.tensor(policy.visibility), torch.tensor(policy.head_type))
    assert again == policy
    assert hash(again) == hash(policy)


@pytest.mark.parametrize(
    ("visibility", "head_type", "message"),
    [
        ([], [0], "visibility and head_type are empty"),
        ([[[1]]], [], "visibility and head_type are empty"),
        ([[[1, 0]]], [0], r"visibility\[0\] has 1 rows of \[2\] entries; it takes 1 rows of 1"),
        ([[[1]], [[1, 1], [1, 1]]], [0], r"visibility\[1\] has 2 rows of \[2, 2\] entries; it takes 1 rows"),
        ([[[3]]], [0], r"visibility\[0\] holds 3"),
        ([[[1]]], [1], "head_type holds 1; it takes 0 to 0"),
        ([[[1]]], [-1], "head_type holds -1"),
        ([[[1] * 33] * 33], [0], "visibility has 33 modalities; it takes 1 to 32"),
    ],
)
def test_bad_tables_are_named(visibility, head_type, message):
    with pytest.raises(ValueError, match=f"^AttentionPolicy: {message}"):
        AttentionPolicy(visibility, head_type)


@pytest.mark.parametrize(
    ("heads", "prefix", "message"),
    [
        (["sideways"], (), "heads holds 'sideways'; it takes 'full', 'causal'"),
        ("full", (), "heads is 'full'; it takes a list"),
        (["full"], (1,), r"prefix is \(1,\)"),
        (["prefix_lm"], (), r"prefix is \(\)"),
        (["prefix_lm"], (2,), "prefix holds 2; it takes modalities 0 to 1"),
        ([], (), "visibility and head_type are empty"),
    ],
)
def test_bad_presets_are_named(heads, prefix, message):
    with pytest.raises(ValueError, match=f"^AttentionPolicy: {message}"):
        AttentionPolicy.of(heads, n_modality=2, prefix=prefix)
