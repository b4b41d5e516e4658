"""Decoding, error rates, baselines."""

import pytest
import torch

from lisa.builders import build_model, preset
from lisa.data import Sequence
from lisa.errors import InputError
from lisa.synthetic import samples
from lisa.tasks import asr
from lisa.text import CLASSES, encode


def test_greedy_reads_the_best_path_up_to_the_length():
    path = torch.tensor([encode("aa")[0], 0, *encode("ab"), 0, *encode("c")])
    scores = torch.nn.functional.one_hot(path, CLASSES).float()[None]
    assert asr.greedy(Sequence(scores, torch.tensor([6]))) == ["aabc"]
    assert asr.greedy(Sequence(scores, torch.tensor([3]))) == ["aa"]
    assert asr.greedy(Sequence(scores, torch.tensor([0]))) == [""]


def test_error_rates_are_totals_and_not_means():
    scores = asr.score(["a", "one two three four"], ["b", "one two three four"])
    assert scores == asr.Scores(wer=1 / 5, cer=1 / 19, prompts=2, words=5)


def test_empty_answers_have_every_error():
    scores = asr.score_constants(asr.constant_answers(["yes", "yes", "no"]), ["hello world"])["empty answer"]
    assert (scores.wer, scores.cer) == (1.0, 1.0)


def test_baselines_are_chosen_on_the_training_part():
    rows = asr.constant_answers(["no", "yes", "yes"])
    assert list(rows) == ["empty answer", "most frequent text: yes", "best constant: yes"]


def test_texts_come_back_in_the_order_of_the_samples():
    config, clips = preset("asr-test"), samples("test", seed=1)
    model = build_model(config)
    forward = asr.transcribe(model, config, clips)
    assert asr.transcribe(model, config, clips[::-1]) == forward[::-1]
    assert model.training  # Asked in eval mode, handed back as it was.


def test_model_without_a_ctc_head_is_explained():
    config = preset("asr-test")
    config.model.heads = {}
    with pytest.raises(InputError, match=r"no speech tower or no ctc head; .* Start from --preset asr-tiny"):
        asr.mels_of(config)


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError, match="references is empty or holds an empty text"):
        asr.score([], [])
