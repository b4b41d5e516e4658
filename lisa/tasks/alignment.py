"""Forced alignment: when each character and word of a known text is said, by the likeliest CTC path through it."""

from dataclasses import dataclass
from itertools import groupby

import torch

import lisa_kernels
from lisa.collate import collate
from lisa.config import Config
from lisa.data import Sample
from lisa.errors import InputError
from lisa.model import LISA
from lisa.tasks.asr import mels_of
from lisa.text import BLANK

FRAME_S = 0.04  # The mel stem's output rate.


@dataclass(frozen=True)
class Span:
    """A piece of text from ``start_s`` up to ``end_s``; ``score`` is the mean log-probability of its frames (nats)."""

    text: str
    start_s: float
    end_s: float
    score: float


def characters(model: LISA, config: Config, sample: Sample) -> list[Span]:
    """Return the span of every character of the sample's text, spaces included, in order.

    Raises:
        InputError: a sample without text, a clip too short for its text, or what ``mels_of`` refuses.
    """
    if not sample.text:
        raise InputError(f"characters: {sample.id} has no text; alignment takes a clip and what is said in it.")
    batch = collate([sample], mels=mels_of(config))
    with torch.inference_mode():
        scores = model(batch)["ctc"]
        targets = batch.targets
        alignment = lisa_kernels.ctc_align(
            scores.values, targets.values, scores.lengths, targets.lengths, blank=BLANK, layout="NTC"
        )
        spans = lisa_kernels.ctc_spans(alignment)
    if not alignment.total[0].isfinite():
        raise InputError(
            f"characters: {sample.id} has {int(scores.lengths[0])} frames of {FRAME_S:g} s for {len(sample.text)} "
            "characters, too few for any alignment. Give the text of this clip alone."
        )
    columns = (spans.starts[0].tolist(), spans.ends[0].tolist(), spans.scores[0].tolist())
    return [
        Span(character, start * FRAME_S, end * FRAME_S, score)
        for character, start, end, score in zip(sample.text, *columns, strict=True)
    ]


def words(spans: list[Span]) -> list[Span]:
    """Return the words of ``characters``: from the first character's start to the last one's end, frames weighed."""
    found = []
    for is_space, run in groupby(spans, key=lambda span: span.text == " "):
        letters = list(run)
        if is_space:
            continue
        seconds = [letter.end_s - letter.start_s for letter in letters]
        score = sum(letter.score * s for letter, s in zip(letters, seconds, strict=True)) / sum(seconds)
        found.append(Span("".join(letter.text for letter in letters), letters[0].start_s, letters[-1].end_s, score))
    return found
