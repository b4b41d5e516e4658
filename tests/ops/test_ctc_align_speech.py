"""``ctc_align`` on recorded speech."""

import pathlib

import pytest
import torch

import lisa_kernels
from lisa import audio, data
from lisa.text import BLANK, CLASSES, encode
from lisa_kernels.ops.ctc_align import reference
from tests.ops.ctc_problems import random_logits

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "data" / "asterisk"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "manifest.json").is_file(),
    reason="needs the Asterisk prompts: run 'lisa data get' in the repository first",
)
PAUSE = audio.SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def prompts():
    return data.read(FOLDER, "test", max_seconds=6.0)[:30]


def test_each_of_many_joined_prompts_is_found_between_its_pauses(prompts):
    """One label a prompt, which loud frames speak for: a second of silence between keeps them apart."""
    pieces, borders, end = [], [], 0
    for prompt in prompts:
        pieces += [prompt.speech, torch.zeros(PAUSE)]
        borders.append((end, end + prompt.speech.numel()))
        end += prompt.speech.numel() + PAUSE
    loudness = audio.log_mel(torch.cat(pieces), mels=40).mean(-1)
    middle = (loudness.max() + loudness.min()) / 2
    logits = torch.stack([middle - loudness, loudness - middle], -1)
    targets = torch.ones(1, len(prompts), dtype=torch.int64)
    frames = len(logits)
    samples_a_frame = end / frames
    for band in (None, 12):
        spans = lisa_kernels.ctc_spans(lisa_kernels.ctc_align(logits[:, None], targets, [frames], [30], band=band))
        for start, stop, (first, last) in zip(spans.starts[0].tolist(), spans.ends[0].tolist(), borders, strict=True):
            assert first - PAUSE / 10 <= start * samples_a_frame < stop * samples_a_frame <= last + PAUSE / 10


def test_paths_through_texts_are_those_of_the_definition(prompts):
    """Scores change from frame to frame as speech does: a fixed random layer on the prompts' log-mels."""
    features = [audio.log_mel(prompt.speech, mels=40) for prompt in prompts]
    texts = [torch.tensor(encode(prompt.text)) for prompt in prompts]
    padded = torch.nn.utils.rnn.pad_sequence(features)
    logits = padded @ random_logits(40, CLASSES, dtype=torch.float32) / 4
    targets = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(f) for f in features]), torch.tensor([len(t) for t in texts])
    got = lisa_kernels.ctc_align(logits, targets, *lengths, blank=BLANK)
    expected = reference.ctc_align(logits.double(), targets, *lengths, blank=BLANK)
    assert torch.equal(got.states, expected.states)
    assert got.total.isfinite().all()
