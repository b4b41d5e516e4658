"""Towers, heads, the model and its objective."""

import pytest
import torch
import torch.nn.functional as F

from lisa.builders import build_model, preset
from lisa.collate import collate
from lisa.data import Batch, Sample, Sequence
from lisa.errors import InputError
from lisa.objectives import ctc, total
from lisa.steps import learning_rate, make_optimizer, take_step
from lisa.synthetic import samples


@pytest.fixture
def model():
    return build_model(preset("asr-test")).eval()


def test_a_clip_gives_the_same_scores_alone_and_in_a_batch(model):
    clips = samples("train", seed=1)[:4]
    together = model(collate(clips, mels=40))["ctc"]
    for place, clip in enumerate(clips):
        alone = model(collate([clip], mels=40))["ctc"]
        length = int(alone.lengths[0])
        assert int(together.lengths[place]) == length
        torch.testing.assert_close(together.values[place, :length], alone.values[0])


def test_four_frames_become_one(model):
    for frames in (1, 4, 5, 8, 9):
        features = Sequence(torch.randn(1, frames, 40), torch.tensor([frames]))
        output = model.towers["speech"](features)
        assert output.values.shape[1] == output.lengths.item() == -(-frames // 4)


def test_weights_come_from_the_seed_and_leave_the_global_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = build_model(preset("asr-test")), build_model(preset("asr-test"))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_batch_without_speech_runs_no_tower_and_gives_no_term(model):
    batch = collate([Sample("a", text="hello")], mels=40)
    assert model(batch) == {}
    assert total(model(batch), batch, {"ctc": 1.0}) == (None, {})


def test_another_modality_joins_by_one_entry_in_a_dict(model):
    class Words(torch.nn.Module):
        def forward(self, text: Sequence) -> Sequence:
            return Sequence(F.one_hot(text.values, 32).float(), text.lengths)

    model.towers["text"] = Words()
    model.heads["spell"] = model.heads["ctc"]
    model.reads["spell"] = "text"
    batch = collate(samples("train", seed=1)[:2], mels=40)
    both = Batch(batch.ids, batch.texts, {**batch.inputs, "text": batch.targets}, batch.targets)
    assert set(model(batch)) == {"speech", "ctc"}
    assert set(model(both)) == {"speech", "ctc", "text", "spell"}


def test_ctc_term_is_torchs_loss(model):
    batch = collate(samples("train", seed=1)[:4], mels=40)
    outputs = model(batch)
    scores = outputs["ctc"]
    want = F.ctc_loss(
        scores.values.double().log_softmax(-1).transpose(0, 1),
        batch.targets.values,
        scores.lengths,
        batch.targets.lengths,
    )
    # The loss is a sum over about 100 frames in fp32: 1e-5 of it is 84 units in the last place.
    assert (ctc(outputs, batch) - want).abs() < 1e-5 * want


def test_unknown_objective_is_named(model):
    batch = collate(samples("train", seed=1)[:1], mels=40)
    with pytest.raises(InputError, match=r"objectives\.ctx is unknown; it takes ctc"):
        total(model(batch), batch, {"ctx": 1.0})


def test_loss_falls_on_eight_clips():
    config = preset("asr-test")
    config.train.lr, config.train.warmup, config.train.steps = 3e-3, 10, 60
    model, batch = build_model(config).train(), collate(samples("train", seed=1)[:8], mels=40)
    optimizer = make_optimizer(config, model)
    losses = [take_step(config, model, optimizer, batch, step)[0]["ctc"] for step in range(60)]
    assert losses[-1] < 0.7 * losses[0]


def test_rate_warms_up_and_ends_near_zero():
    config = preset("asr-tiny")
    rates = [learning_rate(config, step) for step in range(config.train.steps)]
    assert max(rates) == config.train.lr == rates[config.train.warmup]
    assert rates[0] == pytest.approx(config.train.lr / config.train.warmup)
    assert rates[-1] < 0.02 * config.train.lr


def test_a_loss_that_is_nan_stops_with_the_term_and_the_samples():
    config = preset("asr-test")
    model, batch = build_model(config).train(), collate(samples("train", seed=1)[:2], mels=40)
    with torch.no_grad():
        model.heads["ctc"].out.bias[3] = torch.nan
    with pytest.raises(
        InputError,
        match=r"term ctc is nan at step 7 on samples \['synthetic-train-00', 'synthetic-train-01'\]",
    ):
        take_step(config, model, make_optimizer(config, model), batch, 7)
