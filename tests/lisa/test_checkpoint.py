"""Checkpoints are whole or absent, and say what is wrong with them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lisa import checkpoint
from lisa.builders import build_model, preset
from lisa.errors import InputError
from lisa.steps import make_optimizer


@pytest.fixture
def copy(trained, tmp_path):
    """Return a copy of the trained run that may be damaged."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_half_written_checkpoint_is_never_picked_up(copy):
    newest = checkpoint.steps(copy)[-1]
    shutil.copytree(newest, copy / ".writing-0000030")
    (copy / "step-0000040").mkdir()
    (copy / "step-0000040" / "model.safetensors").write_bytes(b"half")
    shutil.copytree(newest, copy / "step-0000050.old")
    assert checkpoint.steps(copy)[-1] == newest


def test_a_crash_while_writing_leaves_the_older_one(copy, monkeypatch):
    config = preset("asr-test")
    model = build_model(config)
    before = checkpoint.steps(copy)

    def full_disk(path, content):
        path.write_bytes(content[: len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_write_through", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(copy, 30, model, make_optimizer(config, model), {})
    assert checkpoint.steps(copy) == before


def test_newest_and_best_are_kept(tmp_path):
    config = preset("asr-test")
    model = build_model(config)
    for step in (1, 2, 3, 4, 5):
        best = {"best": {"step": 2, "error": 0.5} if step >= 2 else None}
        checkpoint.save(tmp_path, step, model, make_optimizer(config, model), best)
        checkpoint.prune(tmp_path, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == [
        "step-0000002",
        "step-0000004",
        "step-0000005",
    ]
    assert checkpoint.resolve(tmp_path).name == "step-0000002"
    assert checkpoint.resolve(tmp_path / "step-0000004").name == "step-0000004"


def test_optimizer_comes_back_bit_for_bit(trained):
    config = preset("asr-test")
    model = build_model(config)
    optimizer = make_optimizer(config, model)
    path = checkpoint.steps(trained)[-1]
    checkpoint.load_optimizer(path, model, optimizer)
    assert len(optimizer.state) == len(list(model.parameters()))
    assert all(int(state["step"]) == 20 for state in optimizer.state.values())
    assert all(state["exp_avg"].shape == parameter.shape for parameter, state in optimizer.state.items())


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors"])
def test_a_file_cut_short_is_named(copy, name):
    path = checkpoint.steps(copy)[-1]
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:1000])
    with pytest.raises(InputError, match=rf"{name} has 1000 bytes; state\.json says {len(content)}: it is damaged"):
        checkpoint.read(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1, "bytes": {}'])
def test_a_damaged_state_is_named(copy, content):
    path = checkpoint.steps(copy)[-1]
    (path / "state.json").write_text(content)
    with pytest.raises(InputError, match=r"checkpoint .*step-\d+ cannot be read .* Use another step of the run"):
        checkpoint.read(path)


def test_a_full_disk_names_the_file():
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        checkpoint._write_through(Path("/dev/full"), b"weights")


def test_a_missing_file_is_named(copy):
    path = checkpoint.steps(copy)[-1]
    (path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot be read \(FileNotFoundError.*model\.safetensors"):
        checkpoint.read(path)


def test_weights_that_are_no_safetensors_are_named(copy):
    path = checkpoint.steps(copy)[-1]
    (path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read .*; it takes a safetensors file"):
        checkpoint.load_model(path, build_model(preset("asr-test")))


def test_another_format_is_refused(copy):
    path = checkpoint.steps(copy)[-1]
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "format": 9}))
    with pytest.raises(InputError, match="has format 9; it takes 1"):
        checkpoint.read(path)


def test_weights_of_another_config_are_refused_by_the_first_difference(trained):
    config = preset("asr-test")
    config.model.towers["speech"].width = 48
    with pytest.raises(InputError, match=r"is of another config: heads\.ctc\.out\.weight is \(29, 32\) in it and"):
        checkpoint.load_model(checkpoint.steps(trained)[-1], build_model(config))


def test_a_folder_without_checkpoints_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"holds no checkpoint; it takes a run folder or a step-… folder"):
        checkpoint.resolve(tmp_path / "nowhere")


def test_weights_are_stored_as_they_are(tmp_path):
    config = preset("asr-test")
    model, other = build_model(config), build_model(config)
    path = checkpoint.save(tmp_path, 1, model, make_optimizer(config, model), {})
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    checkpoint.load_model(path, other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_weights_overwritten_by_as_many_other_bytes_are_refused(copy):
    step = checkpoint.steps(copy)[-1]
    content = bytearray((step / "model.safetensors").read_bytes())
    content[-100:] = bytes(100)
    (step / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors holds other bytes than were written"):
        checkpoint.read(step)


@pytest.mark.parametrize("key", ["random", "best", "bytes", "sha256"])
def test_a_state_that_lacks_a_key_is_named(copy, key):
    step = checkpoint.steps(copy)[-1]
    state = json.loads((step / "state.json").read_text())
    del state[key]
    (step / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=rf"cannot be read \(KeyError: '{key}'\)"):
        checkpoint.read(step)


def test_a_checkpoint_half_deleted_by_a_kill_does_not_count(copy):
    """Deleting renames first: what a kill leaves bears another name, and the next deletion clears it."""
    left = copy / ".deleting-step-0000001"
    left.mkdir()
    (left / "state.json").write_text("{}")
    before = checkpoint.steps(copy)
    assert left not in before
    checkpoint.prune(copy, keep=1)
    if len(before) > len(checkpoint.steps(copy)):
        assert not left.exists()
