"""Samples to a batch: features of each modality, targets, and the augmentation of training samples."""

import torch
from torch import Tensor

from lisa import audio, text
from lisa.config import AugmentConfig
from lisa.data import Batch, Sample, Sequence, pad
from lisa.errors import InputError


def collate(
    samples: list[Sample], *, mels: int, augment: AugmentConfig | None = None, seed: int = 0, step: int = 0
) -> Batch:
    """Return the batch of ``samples``; with ``augment``, changed by draws that depend on (seed, step) alone.

    A modality enters ``inputs`` if all samples have it; targets exist if all have text.
    """
    if not samples:
        raise InputError("collate: samples is empty; it takes at least one.")
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    inputs = {}
    if all(sample.speech is not None for sample in samples):
        inputs["speech"] = pad([_features(sample, mels, augment, generator) for sample in samples])
    texts = tuple(sample.text for sample in samples)
    return Batch(tuple(sample.id for sample in samples), texts, inputs, _targets(texts))


def _features(sample: Sample, mels: int, augment: AugmentConfig | None, generator: torch.Generator) -> Tensor:
    waveform = sample.speech
    if augment is not None:
        choice = int(torch.randint(len(augment.speeds), (1,), generator=generator))
        faster = round(audio.SAMPLE_RATE_HZ * augment.speeds[choice])
        waveform = audio.resample(waveform, faster, audio.SAMPLE_RATE_HZ)
    try:
        features = audio.log_mel(waveform, mels=mels)
    except InputError as error:
        raise InputError(f"collate: sample {sample.id}: {error}") from error
    if augment is not None:
        features = audio.mask_bands(
            features, generator, time_masks_per_s=augment.time_masks_per_s, mels_masked=augment.mels_masked
        )
    return features


def _targets(texts: tuple[str | None, ...]) -> Sequence | None:
    if any(item is None for item in texts):
        return None
    return pad([torch.tensor(text.encode(item), dtype=torch.int64) for item in texts])
