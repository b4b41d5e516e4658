"""Where characters and words of a known text are, in frames that a model made certain, and what is refused."""

import dataclasses

import pytest
import torch

from lisa.builders import build_model, preset
from lisa.data import Sequence
from lisa.errors import InputError
from lisa.synthetic import samples
from lisa.tasks import alignment
from lisa.tasks.alignment import Span
from lisa.text import CLASSES, encode


class Certain(torch.nn.Module):
    """A model that is sure of one path, whatever it hears."""

    def __init__(self, path: list[int]) -> None:
        super().__init__()
        self.scores = 10.0 * torch.nn.functional.one_hot(torch.tensor(path), CLASSES).float()[None]

    def forward(self, batch):
        return {"ctc": Sequence(self.scores, torch.tensor([self.scores.shape[1]]))}


def test_spans_are_those_of_a_path_that_is_certain():
    a, b, space = encode("ab ")
    clip = dataclasses.replace(samples("test", seed=1)[0], text="ab a")
    model = Certain([0, a, a, 0, b, space, space, 0, a, 0])
    spans = alignment.characters(model, preset("asr-test"), clip)
    frames = [(round(span.start_s / 0.04), round(span.end_s / 0.04)) for span in spans]
    assert "".join(span.text for span in spans) == "ab a"
    assert frames == [(1, 3), (4, 5), (5, 7), (8, 9)]
    words = alignment.words(spans)
    assert [(word.text, word.start_s, word.end_s) for word in words] == [
        ("ab", spans[0].start_s, spans[1].end_s),
        ("a", spans[3].start_s, spans[3].end_s),
    ]


def test_words_weigh_their_characters_by_frames():
    letters = [Span("a", 0.0, 0.3, -1.0), Span("b", 0.5, 0.6, -5.0)]
    assert alignment.words(letters)[0].score == pytest.approx(-2.0)


def test_a_clip_too_short_for_its_text_is_explained():
    config, clip = preset("asr-test"), samples("test", seed=1)[0]
    crowded = dataclasses.replace(clip, text="ab" * 500)
    with pytest.raises(InputError, match=r"for 1000 characters, too few for any alignment"):
        alignment.characters(build_model(config).eval(), config, crowded)


def test_a_clip_without_text_is_refused():
    clip = dataclasses.replace(samples("test", seed=1)[0], text=None)
    with pytest.raises(InputError, match="has no text"):
        alignment.characters(Certain([0]), preset("asr-test"), clip)
