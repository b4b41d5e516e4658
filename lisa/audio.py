"""Sound files to 16 kHz mono waveforms, waveforms to log-mel features.

soundfile reads wav, flac, ogg and more; raw G.722 has no header and goes through PyAV, imported only then.
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from lisa.errors import InputError

SAMPLE_RATE_HZ = 16_000
_G722_MAX_BYTES = 64_000_000  # 2.2 hours: beyond that it is not a prompt but a mistake.
_SINC_ZEROS = 16


def load(path: str | Path, *, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Tensor:
    """Return the file's sound as ``[samples]`` fp32 in about [-1, 1], mixed to mono and resampled.

    Raises:
        InputError: missing, unreadable or empty file, or samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"load: {path} does not exist or is not a file; it takes an audio file. Check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"load: {path} is empty (0 bytes); it takes an audio file. Fetch or export it again.")
    samples, rate_hz = _read_g722(path) if path.suffix.lower() == ".g722" else _read_soundfile(path)
    if samples.size == 0:
        raise InputError(f"load: {path} holds 0 samples; it takes at least one. Record or export it again.")
    if not np.isfinite(samples).all():
        raise InputError(f"load: {path} holds NaN or infinite samples; it takes finite ones. Export it again.")
    return resample(torch.from_numpy(samples), rate_hz, sample_rate_hz)


def _refuse_cut_wav(path: Path) -> None:
    """The library reads a WAV file that was cut short as far as it goes; its header tells the whole length."""
    with path.open("rb") as file:
        head = file.read(12)
    promised = int.from_bytes(head[4:8], "little") + 8
    # 0, the largest number, and from sox 0x7FFFF000 or more, stand for "unknown" in files written as a stream.
    if head[:4] + head[8:] == b"RIFFWAVE" and promised != 8 and path.stat().st_size + 1 < promised < 0x7FFFF000:
        raise InputError(
            f"load: {path} has {path.stat().st_size} bytes; its header says {promised}: it was cut short. "
            "Fetch or export it again."
        )


def _read_soundfile(path: Path) -> tuple[np.ndarray, int]:
    _refuse_cut_wav(path)
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise InputError(
            f"load: {path} cannot be read as audio ({error}); it takes wav, flac, ogg, mp3 or .g722. "
            "Convert it, or fetch it again if it was cut short."
        ) from error
    return samples.mean(axis=1), rate_hz


def _read_g722(path: Path) -> tuple[np.ndarray, int]:
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"load: {path} is G.722 and PyAV is not installed; G.722 needs it. Run: pip install av"
        ) from error
    # The decoder takes any byte, so a text or wav file renamed to .g722 would come out as noise.
    with path.open("rb") as file:
        head = file.read(64)
    is_text = len(head) >= 16 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    if head[:4] in (b"RIFF", b"fLaC", b"OggS") or is_text or path.stat().st_size > _G722_MAX_BYTES:
        raise InputError(
            f"load: {path} begins with {head[:4]!r} and has {path.stat().st_size} bytes; a .g722 file is raw G.722 "
            f"of at most {_G722_MAX_BYTES} bytes. Give the file its true extension."
        )
    try:
        with av.open(str(path), format="g722") as container:
            frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    except (av.error.FFmpegError, IndexError) as error:
        raise InputError(
            f"load: {path} cannot be decoded as G.722 ({error}); it takes raw G.722. Fetch it again."
        ) from error
    samples = np.concatenate(frames) if frames else np.zeros(0, np.int16)
    return samples.astype(np.float32) / 32768.0, 16_000


def resample(waveform: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Return ``waveform`` ``[samples]`` at another rate, ``[ceil(samples * to_hz / from_hz)]``.

    A windowed sinc (Hann, 16 zero crossings a side) evaluated at each output phase. Resampling from
    ``round(rate * speed)`` to ``rate`` plays the sound ``speed`` times as fast.
    """
    if from_hz == to_hz:
        return waveform
    divisor = math.gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    kernels, reach = _sinc_kernels(up, down)
    count = math.ceil(waveform.numel() * up / down)
    padded = F.pad(waveform[None, None], (reach, reach + down))
    phases = F.conv1d(padded, kernels.to(waveform.dtype), stride=down)
    return phases[0].t().reshape(-1)[:count]


@lru_cache(maxsize=16)
def _sinc_kernels(up: int, down: int) -> tuple[Tensor, int]:
    # Cut-off at 0.95 of the lower Nyquist rate leaves room for the window's transition band.
    cutoff = 0.95 * min(1.0, up / down)
    reach = math.ceil(_SINC_ZEROS / cutoff)
    taps = torch.arange(-reach, reach + down, dtype=torch.float64)
    phase = torch.arange(up, dtype=torch.float64) * down / up
    time = taps[None, :] - phase[:, None]
    window = torch.cos(time * math.pi / (2 * reach)).square() * (time.abs() < reach)
    return (cutoff * torch.sinc(cutoff * time) * window)[:, None].float(), reach


def log_mel(waveform: Tensor, *, mels: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Tensor:
    """Return log-mel features ``[frames, mels]``, one frame per 10 ms (25 ms Hann window).

    Level and range are normalised over the whole clip by two scalars, so loudness does not matter and the shape of
    the spectrum stays.

    Raises:
        InputError: fewer samples than one window.
    """
    window = sample_rate_hz // 40
    if waveform.numel() < window:
        raise InputError(
            f"log_mel: waveform has {waveform.numel()} samples; it takes at least {window} (25 ms). "
            "Leave the clip out or record it again."
        )
    fft = 1 << (window - 1).bit_length()
    spectrum = torch.stft(
        waveform,
        n_fft=fft,
        hop_length=sample_rate_hz // 100,
        win_length=window,
        window=torch.hann_window(window, dtype=waveform.dtype),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    energy = mel_filters(mels, fft, sample_rate_hz) @ spectrum.abs().square()
    features = energy.clamp_min(1e-8).log().t()
    return (features - features.mean()) / features.std().clamp_min(1e-3)


@lru_cache(maxsize=8)
def mel_filters(mels: int, fft: int, sample_rate_hz: int) -> Tensor:
    """Return triangular filters ``[mels, fft // 2 + 1]``, equally wide on the scale 2595 log10(1 + f / 700)."""
    top = 2595.0 * math.log10(1.0 + sample_rate_hz / 2 / 700.0)
    corners_hz = 700.0 * (10.0 ** (torch.linspace(0.0, top, mels + 2, dtype=torch.float64) / 2595.0) - 1.0)
    bins_hz = torch.linspace(0.0, sample_rate_hz / 2, fft // 2 + 1, dtype=torch.float64)
    left, centre, right = (corners_hz[i : i + mels, None] for i in range(3))
    rising = (bins_hz - left) / (centre - left)
    falling = (right - bins_hz) / (right - centre)
    return torch.minimum(rising, falling).clamp_min(0.0).float()


def mask_bands(features: Tensor, generator: torch.Generator, *, time_masks_per_s: float, mels_masked: int) -> Tensor:
    """Return ``features`` ``[frames, mels]`` with random stretches set to 0, the mean (SpecAugment, Park et al. 2019).

    Two frequency bands of up to ``mels_masked`` mels; ``time_masks_per_s`` stretches a second of up to 0.12 s.
    """
    features = features.clone()
    frames, mels = features.shape

    def draw(limit: int) -> int:
        return int(torch.randint(0, max(limit, 1), (1,), generator=generator))

    for _ in range(2 if mels_masked else 0):
        width = draw(mels_masked + 1)
        start = draw(mels - width + 1)
        features[:, start : start + width] = 0.0
    for _ in range(round(frames / 100 * time_masks_per_s)):
        width = draw(min(12, frames // 4) + 1)
        start = draw(frames - width + 1)
        features[start : start + width] = 0.0
    return features
