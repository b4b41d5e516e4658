"""Speech recognition: greedy CTC decoding, word and character error rates, and baselines that know no audio."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jiwer
import torch

import lisa_kernels
from lisa.audio import load
from lisa.collate import collate
from lisa.config import Config
from lisa.data import Sample, Sequence
from lisa.errors import InputError
from lisa.model import LISA
from lisa.text import BLANK, decode


@dataclass(frozen=True)
class Scores:
    """Error rates over all words and characters of a set (1.0 = as many errors as there are words), and its size."""

    wer: float
    cer: float
    prompts: int
    words: int


def greedy(scores: Sequence) -> list[str]:
    """Return the text of the best class at each frame, single spaces between words; values are ``[N, T, C]``."""
    found = lisa_kernels.ctc_greedy_decode(scores.values, scores.lengths, blank=BLANK, layout="NTC")
    texts = [decode(ids[:length]) for ids, length in zip(found.ids.tolist(), found.lengths.tolist(), strict=True)]
    return [" ".join(text.split()) for text in texts]


def transcribe(model: LISA, config: Config, samples: list[Sample]) -> list[str]:
    """Return the recognised text of each sample, in order; samples are batched by length inside."""
    texts = [""] * len(samples)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for places in _by_length(samples, config.data.batch_seconds):
            outputs = model(collate([samples[place] for place in places], mels=mels_of(config)))
            for place, text in zip(places, greedy(outputs["ctc"]), strict=True):
                texts[place] = text
    model.train(was_training)
    return texts


def mels_of(config: Config) -> int:
    """Return the number of mel bands the speech tower reads.

    Raises:
        InputError: a config without a speech tower or without the ctc head.
    """
    if "speech" not in config.model.towers or "ctc" not in config.model.heads:
        raise InputError(
            "mels_of: the config's model has no speech tower or no ctc head; recognition needs model.towers.speech "
            "and model.heads.ctc. Start from --preset asr-tiny."
        )
    return config.model.towers["speech"].inputs


def _by_length(samples: list[Sample], batch_seconds: float) -> Iterator[list[int]]:
    places: list[int] = []
    for place in sorted(range(len(samples)), key=lambda place: samples[place].seconds):
        padded = samples[place].seconds * (len(places) + 1)
        if places and padded > batch_seconds:
            yield places
            places = []
        places.append(place)
    if places:
        yield places


def score(references: list[str], hypotheses: list[str]) -> Scores:
    """Return the error rates of ``hypotheses`` against ``references``, both in the codec's characters."""
    if not references or not all(references):
        raise InputError("score: references is empty or holds an empty text; it takes texts with at least one word.")
    return Scores(
        wer=jiwer.wer(references, hypotheses),
        cer=jiwer.cer(references, hypotheses),
        prompts=len(references),
        words=sum(len(text.split()) for text in references),
    )


def constant_answers(train_texts: list[str]) -> dict[str, str]:
    """Return answers that ignore the audio, by what they are: nothing, the most frequent text, the best constant.

    The best constant has the lowest character error rate on the training part, among its texts and their beginnings.
    """
    frequent = min(Counter(train_texts).items(), key=lambda item: (-item[1], item[0]))[0]
    starts = {" ".join(text.split()[:count]) for text in set(train_texts) for count in (1, 2, 3, 4, 6, 8)}
    constant = min(sorted({*train_texts, *starts}), key=lambda text: jiwer.cer(train_texts, [text] * len(train_texts)))
    return {"empty answer": "", f"most frequent text: {frequent}": frequent, f"best constant: {constant}": constant}


def score_constants(answers: dict[str, str], references: list[str]) -> dict[str, Scores]:
    """Return the scores of giving each answer for every reference."""
    return {name: score(references, [text] * len(references)) for name, text in answers.items()}


def samples_of_files(paths: list[Path]) -> list[Sample]:
    """Return the sound files as samples without text.

    Raises:
        InputError: what ``audio.load`` refuses.
    """
    return [Sample(str(path), speech=load(path)) for path in paths]
