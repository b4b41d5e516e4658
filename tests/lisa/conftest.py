"""What the lisa tests share: small sound files, a trained run, and a way to run the command as a user does."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from lisa import synthetic
from lisa.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Use one thread: the test models are so small that two only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tone(tmp_path):
    """Return a writer of one-second tones: ``tone("a.wav", rate_hz=8000)`` gives the path."""

    def write(name: str, *, rate_hz: int = 16_000, channels: int = 1) -> Path:
        wave = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(rate_hz) / rate_hz)
        soundfile.write(tmp_path / name, wave[:, None].expand(-1, channels).numpy(), rate_hz)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Return the run folder of a finished 20-step run on made-up data."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--synthetic", "--run", str(run)]) == 0
    return run


@pytest.fixture
def clip(tmp_path) -> Path:
    """Return a wav file of made-up speech."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, synthetic.samples("test", seed=1)[0].speech.numpy(), 16_000)
    return path


@pytest.fixture
def start():
    """Return a starter of ``python -m lisa …`` processes; what still runs at the end of the test is killed."""
    running = []

    def launch(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "lisa", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield launch
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def asterisk() -> Path:
    """Return the Asterisk data folder, or skip."""
    folder = ROOT / "data" / "asterisk"
    if not (folder / "manifest.json").is_file():
        pytest.skip("needs the Asterisk prompts: run 'lisa data get' in the repository first")
    return folder
