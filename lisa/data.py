"""Samples of any modality, batches that say what is present, and a sampler without state.

The order of a run is a pure function of (seed, epoch, step): nothing about it has to be saved for an exact resume.
"""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lisa import audio
from lisa.errors import InputError

_MANIFEST_KEYS = ("name", "licence", "packages", "prompts", "minutes", "clusters")  # What the demo's page shows.


@dataclass(frozen=True)
class Sample:
    """One example; a modality that is None is absent, never replaced by zeros.

    ``speech`` is a waveform ``[samples]`` at 16 kHz, ``image`` is ``[3, H, W]``.
    """

    id: str
    text: str | None = None
    image: Tensor | None = None
    speech: Tensor | None = None

    @property
    def seconds(self) -> float:
        """Return the length of the speech, 0 where there is none."""
        return 0.0 if self.speech is None else self.speech.numel() / audio.SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Sequence:
    """A padded batch of sequences: ``values`` ``[N, T, ...]``, ``lengths`` ``[N]``; what is beyond a length is 0."""

    values: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Batch:
    """Samples by modality; ``inputs`` holds only modalities that every sample of the batch has."""

    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    inputs: dict[str, Sequence]
    targets: Sequence | None


def read(folder: str | Path, split: str, *, max_seconds: float = math.inf) -> list[Sample]:
    """Return the samples of one split of a data folder, waveforms loaded, at most ``max_seconds`` long each.

    Raises:
        InputError: no data folder there, a damaged list, a missing or unreadable clip.
    """
    folder = Path(folder)
    if not (folder / "prompts.tsv").is_file():
        raise InputError(
            f"read: {folder} is no data folder (prompts.tsv is missing). Run 'lisa data get --folder {folder}' first, "
            "or use --synthetic to try the plumbing."
        )
    try:
        with (folder / "prompts.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
            seconds = [float(row["seconds"]) for row in rows if "seconds" in row]
    except (UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise InputError(f"read: {folder / 'prompts.tsv'} is damaged ({error}). Run 'lisa data get' again.") from error
    if not rows or not {"id", "split", "seconds", "text"} <= rows[0].keys():
        raise InputError(f"read: {folder / 'prompts.tsv'} lacks rows or columns. Run 'lisa data get' again.")
    for number, (row, length) in enumerate(zip(rows, seconds, strict=True), start=2):
        if row["text"] is None or not 0 < length < math.inf:
            raise InputError(
                f"read: {folder / 'prompts.tsv'} line {number} has length {length} and text {row['text']!r}; it takes "
                "a number above 0 and a text. Run 'lisa data get' again."
            )
    splits = sorted({row["split"] for row in rows})
    if split not in splits:
        raise InputError(f"read: split {split!r} is not in {folder}; it takes {', '.join(splits)}.")
    wanted = [row for row, s in zip(rows, seconds, strict=True) if row["split"] == split and s <= max_seconds]
    if not wanted:
        raise InputError(
            f"read: split {split!r} of {folder} has no prompt of at most {max_seconds:g} s. Raise data.max_seconds."
        )
    return [
        Sample(row["id"], text=row["text"], speech=audio.load(folder / "audio" / f"{row['id']}.g722")) for row in wanted
    ]


def manifest(folder: str | Path) -> dict:
    """Return what the data folder says about itself.

    Raises:
        InputError: a damaged manifest.
    """
    path = Path(folder) / "manifest.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in _MANIFEST_KEYS if key not in about]
    except (ValueError, TypeError) as error:
        raise InputError(f"manifest: {path} is damaged ({error}). Run 'lisa data get' again.") from error
    if missing:
        raise InputError(f"manifest: {path} lacks {', '.join(missing)}. Run 'lisa data get' again.")
    return about


def batches(seconds: list[float], *, batch_seconds: float, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch as lists of indices: alike in length inside, shuffled among themselves.

    Every index occurs once. Their number depends on ``seconds`` and ``batch_seconds`` alone, so the epoch of a step is
    ``step // number``. Cutting a list sorted by (jittered) length at equal sums of seconds keeps padding and memory
    even: many short clips or few long ones.
    """
    number = batch_count(seconds, batch_seconds=batch_seconds)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    lengths = torch.tensor(seconds, dtype=torch.float64)
    jitter = torch.exp(0.25 * torch.randn(len(seconds), generator=generator, dtype=torch.float64))
    order = torch.argsort(lengths * jitter, stable=True)
    middle = lengths[order].cumsum(0) - lengths[order] / 2
    place = (middle * number / lengths.sum()).long().clamp_max(number - 1)
    groups = [order[place == index].tolist() for index in range(number)]
    shuffled = torch.randperm(number, generator=generator).tolist()
    return [groups[index] for index in shuffled if groups[index]]


def batch_count(seconds: list[float], *, batch_seconds: float) -> int:
    """Return the number of batches an epoch is cut into, at least 1."""
    return max(1, math.ceil(sum(seconds) / batch_seconds))


def indices_at(seconds: list[float], step: int, *, batch_seconds: float, seed: int) -> list[int]:
    """Return the sample indices of optimizer step ``step`` (from 0)."""
    epoch, place = divmod(step, batch_count(seconds, batch_seconds=batch_seconds))
    groups = batches(seconds, batch_seconds=batch_seconds, seed=seed, epoch=epoch)
    return groups[place % len(groups)]


def pad(values: list[Tensor]) -> Sequence:
    """Return tensors ``[T_i, ...]`` as one ``Sequence``, zeros beyond each length."""
    lengths = torch.tensor([value.shape[0] for value in values], dtype=torch.int64)
    return Sequence(torch.nn.utils.rnn.pad_sequence(values, batch_first=True), lengths)
