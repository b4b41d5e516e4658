"""Runs that are stopped, killed or interrupted go on as if nothing had happened."""

import json
import signal
import time
from pathlib import Path

import pytest

from lisa import checkpoint
from lisa.cli import main
from lisa.progress import read_log

FILES = ("model.safetensors", "optim.safetensors")
SHORT = ("--synthetic", "--set", "train.checkpoint_every=4", "--set", "train.validate_every=8")


def assert_same_run(first: Path, second: Path) -> None:
    """Compare the newest checkpoints byte by byte, the random state, and every loss in the logs."""
    a, b = checkpoint.steps(first)[-1], checkpoint.steps(second)[-1]
    assert a.name == b.name
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    states = [json.loads((path / "state.json").read_text()) for path in (a, b)]
    assert states[0] == states[1]
    logs = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(run / "log.jsonl")]
        for run in (first, second)
    ]
    assert logs[0] == logs[1]


def wait_for(path: Path, process) -> None:
    """Wait until ``path`` exists; fail if the process ends before."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_stopped_and_resumed_is_the_same_as_uninterrupted(tmp_path, capsys):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["train", *SHORT, "--run", str(whole)]) == 0
    assert main(["train", *SHORT, "--run", str(halves), "--stop-at", "11"]) == 0
    assert checkpoint.steps(halves)[-1].name == "step-0000011"
    assert main(["train", "--run", str(halves), "--resume"]) == 0
    checkpoint.prune(halves, keep=1)
    assert_same_run(whole, halves)


def test_killed_in_mid_run_and_resumed_is_the_same_as_uninterrupted(tmp_path, start):
    long = (*SHORT, "--set", "train.steps=60", "--threads", "1")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = start("train", *long, "--run", whole)
    assert first.wait(120) == 0
    process = start("train", *long, "--run", killed)
    wait_for(killed / "step-0000012", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert checkpoint.steps(killed)[-1].name < "step-0000060"
    resumed = start("train", "--run", killed, "--resume", "--threads", "1")
    assert resumed.wait(120) == 0
    assert_same_run(whole, killed)


def test_ctrl_c_saves_says_where_and_exits_with_130(tmp_path, start):
    run = tmp_path / "run"
    process = start("train", *SHORT, "--set", "train.steps=5000", "--run", run)
    wait_for(run / "step-0000004", process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    newest = checkpoint.steps(run)[-1]
    assert f"saved step {int(newest.name[5:])} in {newest}" in output


def test_a_run_folder_in_use_is_not_overwritten(trained, capsys):
    assert main(["train", "--synthetic", "--run", str(trained)]) == 2
    assert "holds checkpoints up to step-0000020. Add --resume to go on" in capsys.readouterr().err


def test_resuming_nothing_is_explained(tmp_path, capsys):
    assert main(["train", "--synthetic", "--run", str(tmp_path / "no"), "--resume"]) == 2
    assert "holds no checkpoint to resume" in capsys.readouterr().err


def test_resuming_with_another_config_names_the_difference(trained, capsys):
    arguments = ["train", "--synthetic", "--run", str(trained), "--resume", "--set", "train.lr=0.5"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "is of another config (train.lr: 0.002 is not 0.5)" in error
    assert "Resume with its own config" in error


def test_a_finished_run_can_be_resumed_without_harm(trained, capsys):
    before = (checkpoint.steps(trained)[-1] / "model.safetensors").read_bytes()
    assert main(["train", "--run", str(trained), "--resume"]) == 0
    assert (checkpoint.steps(trained)[-1] / "model.safetensors").read_bytes() == before


def test_a_log_line_cut_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1, "loss": 2.0}]


def test_every_figure_of_a_synthetic_run_says_so(tmp_path, capsys):
    assert main(["train", *SHORT, "--run", str(tmp_path / "run")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line or "CER" in line]
    assert lines
    assert all("synthetic data, no quality figure" in line for line in lines)


@pytest.mark.parametrize("missing", ["data/nowhere"])
def test_missing_data_folder_is_explained(tmp_path, capsys, missing):
    arguments = ["train", "--run", str(tmp_path / "run"), "--set", f"data.folder={tmp_path / missing}"]
    assert main(arguments) == 2
    assert "Run 'lisa data get --folder" in capsys.readouterr().err
