"""Loading, resampling, features and masks."""

import math
import sys

import numpy as np
import pytest
import soundfile
import torch

from lisa import audio
from lisa.errors import InputError


def sine(frequency_hz: float, rate_hz: int, seconds: float = 1.0) -> torch.Tensor:
    """Return a tone at half of full scale, ``[samples]``."""
    return 0.5 * torch.sin(2 * math.pi * frequency_hz * torch.arange(int(rate_hz * seconds)) / rate_hz)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone_below_both_nyquist_rates(rate_hz):
    got = audio.resample(sine(1000, rate_hz), rate_hz, 16_000)
    want = sine(1000, 16_000)
    assert got.shape == want.shape
    # The ends feel the silence outside; 0.5 % of full scale is the filter's ripple.
    assert (got - want)[400:-400].abs().max() < 0.0025


def test_downsampling_removes_what_the_lower_rate_cannot_hold():
    got = audio.resample(sine(7000, 16_000), 16_000, 8_000)
    assert got[400:-400].abs().max() < 0.002


def test_resampling_at_another_speed_changes_the_length_by_it():
    assert audio.resample(sine(440, 16_000), 17_600, 16_000).numel() == math.ceil(16_000 / 1.1)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_load_gives_mono_at_16_khz(tone, name):
    waveform = audio.load(tone(name, rate_hz=8000, channels=2))
    assert waveform.dtype == torch.float32
    assert waveform.shape == (16_000,)
    assert 0.28 < waveform[1000:-1000].abs().max() < 0.33


def test_loudness_does_not_change_features():
    wave = sine(700, 16_000) + 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    gap = audio.log_mel(wave, mels=40) - audio.log_mel(0.1 * wave, mels=40)
    assert gap.abs().max() < 1e-3  # The floor of 1e-8 under the logarithm moves quiet bands a little.


def test_a_tone_peaks_in_the_band_around_it():
    features = audio.log_mel(sine(1000, 16_000), mels=40)
    filters = audio.mel_filters(40, 512, 16_000)
    assert features.shape == (101, 40)
    assert filters[features[50].argmax(), round(1000 / 16_000 * 512)] > 0.5


def test_masks_leave_the_input_alone_and_follow_the_generator():
    features = torch.ones(300, 40)
    first, second = (
        audio.mask_bands(features, torch.Generator().manual_seed(3), time_masks_per_s=2, mels_masked=10)
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert features.min() == 1
    assert first.min() == 0
    assert first.mean() > 0.3


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"load: .*no\.wav does not exist .* Check the path"):
        audio.load(tmp_path / "no.wav")


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(InputError, match=r"a\.wav is empty \(0 bytes\)"):
        audio.load(tmp_path / "a.wav")


def test_file_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(InputError, match=r"a\.wav holds 0 samples; it takes at least one"):
        audio.load(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_file_that_is_no_audio_is_refused(tmp_path, name):
    (tmp_path / name).write_text("this is a text, not a sound\n" * 20)
    with pytest.raises(InputError, match=r"cannot be read as audio .*; it takes wav, flac, ogg, mp3 or \.g722"):
        audio.load(tmp_path / name)


def test_file_cut_in_its_header_is_refused(tone):
    path = tone("a.flac")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="cannot be read as audio"):
        audio.load(path)


@pytest.mark.parametrize("stated", [0, 0x7FFFF024, 0xFFFFFFFF])
def test_wav_written_to_a_pipe_states_no_size_and_is_read(tone, stated):
    path = tone("a.wav")
    content = path.read_bytes()
    path.write_bytes(content[:4] + stated.to_bytes(4, "little") + content[8:])
    assert audio.load(path).shape == (16_000,)


def test_samples_that_are_not_finite_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(800, np.nan, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match="holds NaN or infinite samples"):
        audio.load(tmp_path / "a.wav")


def test_clip_shorter_than_a_window_is_refused():
    with pytest.raises(InputError, match=r"waveform has 399 samples; it takes at least 400 \(25 ms\)"):
        audio.log_mel(torch.zeros(399), mels=40)


def test_g722_gives_two_samples_a_byte(tmp_path):
    pytest.importorskip("av", reason="G.722 needs PyAV: pip install av")
    (tmp_path / "a.g722").write_bytes(bytes(range(256)) * 20)
    waveform = audio.load(tmp_path / "a.g722")
    assert waveform.shape == (2 * 256 * 20,)
    assert torch.isfinite(waveform).all()


def test_g722_without_pyav_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.g722").write_bytes(b"\x00" * 100)
    monkeypatch.setitem(sys.modules, "av", None)  # Makes "import av" fail.
    with pytest.raises(InputError, match=r"a\.g722 is G\.722 and PyAV is not installed.*pip install av"):
        audio.load(tmp_path / "a.g722")


def test_wav_named_g722_is_refused(tone, tmp_path):
    tone("a.wav").rename(tmp_path / "a.g722")
    with pytest.raises(InputError, match=r"begins with b'RIFF'.*Give the file its true extension"):
        audio.load(tmp_path / "a.g722")


def test_wav_cut_in_its_sound_is_refused(tone):
    """The library would read what is left without a word."""
    path = tone("a.wav")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="its header says 32044: it was cut short"):
        audio.load(path)


def test_text_named_g722_is_refused(tmp_path):
    path = tmp_path / "a.g722"
    path.write_text("this is a transcript, not a recording")
    with pytest.raises(InputError, match="raw G"):
        audio.load(path)
