"""``ctc_greedy_decode``: what it says by hand, faults in device values, torch's own functions around it."""

import itertools

import pytest
import torch

import lisa_kernels
from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import Case
from lisa_kernels.ops.ctc_greedy_decode import native_impl, reference
from lisa_kernels.testing import assert_matches, judge_case, same_bits
from lisa_kernels.testing.rows import FAILED
from tests.ops.backends import BACKENDS
from tests.ops.ctc_problems import random_logits

SPEC = select(["ctc_greedy_decode"])[0]
NAN, INF = float("nan"), float("inf")
right_forward = reference.forward


def one_hot(classes, count=5):
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float() * 8


def decode_by_hand(logits, length, blank):
    """The definition in Python: runs of equal classes, blanks left out."""
    best = [max(range(len(row)), key=lambda c: (row[c], -c)) for row in logits[:length].tolist()]
    runs, start = [], 0
    for label, run in itertools.groupby(best):
        end = start + len(list(run))
        if label != blank:
            runs.append((label, start, end))
        start = end
    return runs


def test_repeats_are_merged_and_blanks_dropped(backend):
    decoded = lisa_kernels.ctc_greedy_decode(one_hot([0, 3, 3, 0, 3, 1, 1, 2, 0]))
    assert decoded.lengths == 4
    assert decoded.ids.tolist() == [3, 3, 1, 2, -1, -1, -1, -1, -1]
    assert decoded.starts.tolist() == [1, 4, 5, 7, -1, -1, -1, -1, -1]
    assert decoded.ends.tolist() == [3, 5, 7, 8, -1, -1, -1, -1, -1]


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("classes", [2, 3, 20])
def test_it_agrees_with_the_definition_in_python(backend, classes, blank):
    blank = min(blank, classes - 1)
    # Whole numbers tie often.
    logits = random_logits(90, 3, classes, dtype=torch.float32).round()
    lengths = [90, 41, 0]
    decoded = lisa_kernels.ctc_greedy_decode(logits, lengths, blank=blank)
    for n, length in enumerate(lengths):
        runs = decode_by_hand(logits[:, n], length, blank)
        count = int(decoded.lengths[n])
        fields = decoded.ids[n], decoded.starts[n], decoded.ends[n]
        assert list(zip(*(field[:count].tolist() for field in fields), strict=True)) == runs
        assert all((field[count:] == -1).all() for field in fields)


def test_the_score_is_the_best_path_s_log_probability(backend):
    logits = random_logits(40, 2, 7)
    decoded = lisa_kernels.ctc_greedy_decode(logits, [40, 30])
    best = logits.log_softmax(-1).amax(-1)
    assert_matches(decoded.scores, torch.stack([best[:, 0].sum(), best[:30, 1].sum()]), depth=40)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_frame_spoils_the_score_of_its_own_utterance_only(backend, value):
    logits = random_logits(20, 2, 6, dtype=torch.float32)
    clean = lisa_kernels.ctc_greedy_decode(logits)
    logits[7, 1, 2] = value
    decoded = lisa_kernels.ctc_greedy_decode(logits)
    assert decoded.scores[1].isnan()
    assert same_bits(decoded.scores[0], clean.scores[0])
    assert torch.equal(decoded.ids[0], clean.ids[0])


@pytest.mark.parametrize("length", [-3, 21])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_device_length_out_of_range_gives_a_nan_score_and_stays_within_bounds(name, length):
    """Below the check of values: what a GPU, which cannot raise, would do."""
    logits = random_logits(20, 2, 6, dtype=torch.float32)
    module = native_impl if name == "cpu" else reference
    ids, lengths, _, _, scores = module.forward(logits, torch.tensor([20, length]), 0)
    assert scores.isnan().tolist() == [False, True]
    held = module.forward(logits, torch.tensor([20, min(max(length, 0), 20)]), 0)
    assert torch.equal(ids, held[0])
    assert torch.equal(lengths, held[1])


def test_no_gradient_flows_through_it(backend):
    logits = random_logits(6, 2, 4, dtype=torch.float32).requires_grad_()
    decoded = lisa_kernels.ctc_greedy_decode(logits)
    assert not decoded.scores.requires_grad


def test_it_compiles_without_a_graph_break(backend):
    logits = random_logits(12, 2, 5, dtype=torch.float32)
    lengths = torch.tensor([12, 9])
    compiled = torch.compile(lisa_kernels.ctc_greedy_decode, fullgraph=True, backend="eager")
    got, expected = compiled(logits, lengths), lisa_kernels.ctc_greedy_decode(logits, lengths)
    assert torch.equal(got.ids, expected.ids)
    assert same_bits(got.scores, expected.scores)


@pytest.mark.parametrize("shape", [(5, 2, 4), (0, 2, 4), (5, 0, 4)], ids=str)
def test_the_registered_op_keeps_its_promises(shape, backend):
    logits = random_logits(*shape, dtype=torch.float32)
    lengths = torch.full((shape[1],), shape[0])
    torch.library.opcheck(torch.ops.lisa.ctc_greedy_decode_fwd.default, (logits, lengths, 0))


def without_merging(logits, logit_lengths, blank):
    """Planted: every frame that is no blank is a label of its own."""
    spread = logits.repeat_interleave(2, 0)
    spread[1::2] = -100
    spread[1::2, :, blank] = 0
    ids, lengths, starts, ends, scores = right_forward(spread, 2 * logit_lengths, blank)
    return ids[:, : len(logits)].contiguous(), lengths, starts, ends, scores


def with_the_last_of_equals(logits, logit_lengths, blank):
    """Planted: ties go to the highest class."""
    flipped = right_forward(logits.flip(-1), logit_lengths, logits.shape[2] - 1 - blank)
    ids = torch.where(flipped[0] < 0, -1, logits.shape[2] - 1 - flipped[0])
    return ids, *flipped[1:]


@pytest.mark.parametrize(("wrong", "edge"), [(without_merging, "one_label"), (with_the_last_of_equals, "ties")])
def test_the_judge_sees_a_wrong_kernel(wrong, edge, monkeypatch):
    monkeypatch.setattr("lisa_kernels.ops.ctc_greedy_decode.reference.forward", wrong)
    case = Case("planted", {"T": 24, "N": 4, "C": 9}, {}, edge)
    rows = judge_case(SPEC, case, torch.float32, backend="reference", behaviour=False)
    assert any(row.status == FAILED for row in rows)
