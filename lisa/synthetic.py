"""Made-up speech: each character is a chord of its own. It runs the plumbing and says nothing about quality."""

import torch

from lisa import audio
from lisa.data import Sample
from lisa.errors import InputError
from lisa.text import CHARACTERS

NOTE = "synthetic data, no quality figure"
CHARACTER_S = 0.12
_WORDS = [
    "press",
    "one",
    "to",
    "hear",
    "the",
    "next",
    "message",
    "enter",
    "your",
    "number",
    "and",
    "hold",
    "please",
    "call",
    "again",
]
_SIZES = {"train": 48, "dev": 8, "test": 8}
SPLITS = tuple(_SIZES)


def samples(split: str, *, seed: int) -> list[Sample]:
    """Return the clips of one split: one to three words, always the same for a seed; splits share no seed.

    Raises:
        InputError: an unknown split.
    """
    if split not in SPLITS:
        raise InputError(f"samples: split {split!r} is unknown; it takes {', '.join(SPLITS)}.")
    generator = torch.Generator().manual_seed(seed * 1_000_003 + SPLITS.index(split))
    result = []
    for number in range(_SIZES[split]):
        count = int(torch.randint(1, 4, (1,), generator=generator))
        words = [_WORDS[int(torch.randint(len(_WORDS), (1,), generator=generator))] for _ in range(count)]
        text = " ".join(words)
        result.append(Sample(f"synthetic-{split}-{number:02d}", text=text, speech=tones(text, generator)))
    return result


def tones(text: str, generator: torch.Generator) -> torch.Tensor:
    """Return ``text`` as ``[samples]`` at 16 kHz, 0.12 s a character, over faint noise."""
    length = round(CHARACTER_S * audio.SAMPLE_RATE_HZ)
    time = torch.arange(length) / audio.SAMPLE_RATE_HZ
    fade = torch.hann_window(length, periodic=False).clamp_max(0.3) / 0.3
    parts = []
    for character in text:
        place = CHARACTERS.index(character)
        low, high = 300.0 + 90.0 * (place % 7), 1200.0 + 350.0 * (place // 7)
        parts.append(fade * 0.2 * (torch.sin(2 * torch.pi * low * time) + torch.sin(2 * torch.pi * high * time)))
    waveform = torch.cat(parts)
    return waveform + 0.005 * torch.randn(waveform.shape, generator=generator)
