"""The verbs as a user types them, and what they say to wrong input."""

import shutil

import pytest

from lisa import checkpoint
from lisa.cli import main


def error_of(capsys, *arguments) -> str:
    """Run a verb that must fail with one error line, and return it."""
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_the_module_runs_as_the_command_does(start, trained, clip):
    process = start("transcribe", trained, clip)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert output.startswith(f"{clip}\t")


def test_eval_prints_the_model_beside_answers_that_know_no_audio(trained, capsys):
    assert main(["eval", str(trained)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "test: 8 prompts, 13 words"
    for row, name in zip(rows, ("model", "empty answer", "most frequent text", "best constant"), strict=True):
        assert name in row
        assert "CER" in row
        assert "WER" in row
        assert "synthetic data, no quality figure" in row


def test_transcribe_takes_several_files_and_one_step(trained, clip, tone, capsys):
    other = tone("other.flac", rate_hz=44_100, channels=2)
    assert main(["transcribe", str(checkpoint.steps(trained)[-1]), str(clip), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(clip), str(other)]


def test_align_prints_every_word_with_its_time(trained, clip, capsys):
    assert main(["align", str(trained), str(clip), "a b"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["from, s", "to, s", "mean log-probability", "word"]
    starts, ends, _, words = zip(*(row.split("\t") for row in rows), strict=True)
    assert words == ("a", "b")
    assert 0 <= float(starts[0]) < float(ends[0]) < float(starts[1]) < float(ends[1])


def test_align_explains_a_text_that_has_other_characters(trained, clip, capsys):
    assert "holds ['7']" in error_of(capsys, "align", trained, clip, "at 7")


def test_help_names_the_verbs(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert all(verb in output for verb in ("data", "train", "eval", "transcribe", "align", "demo"))


def test_a_reader_that_leaves_early_causes_no_traceback(start, trained, clip):
    process = start("transcribe", trained, *[clip] * 3)
    process.stdout.close()
    error = process.stderr.read()
    assert "Traceback" not in error
    assert "Exception" not in error


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_wrong_thread_count_is_refused(value, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--threads", value])
    assert "is not a whole number above 0" in capsys.readouterr().err


def test_unknown_config_key(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("train:\n  step: 3\n")
    error = error_of(capsys, "train", tmp_path / "run.yaml", "--run", tmp_path / "run")
    assert "unknown key train.step;" in error
    assert "Did you mean train.steps?" in error


def test_unknown_preset(tmp_path, capsys):
    error = error_of(capsys, "train", "--preset", "asr-tyni", "--run", tmp_path / "run")
    assert "Did you mean asr-tiny?" in error


def test_missing_sound_file(trained, tmp_path, capsys):
    assert "no.wav does not exist" in error_of(capsys, "transcribe", trained, tmp_path / "no.wav")


def test_broken_sound_file(trained, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(b"RIFF, and then nothing of use")
    assert "a.wav cannot be read as audio" in error_of(capsys, "transcribe", trained, tmp_path / "a.wav")


def test_empty_sound_file(trained, tmp_path, capsys):
    (tmp_path / "a.ogg").touch()
    assert "a.ogg is empty (0 bytes)" in error_of(capsys, "transcribe", trained, tmp_path / "a.ogg")


def test_missing_checkpoint(tmp_path, clip, capsys):
    assert "holds no checkpoint" in error_of(capsys, "transcribe", tmp_path / "nowhere", clip)


def test_damaged_checkpoint(trained, tmp_path, clip, capsys):
    shutil.copytree(checkpoint.steps(trained)[-1], tmp_path / "step-0000020")
    (tmp_path / "step-0000020" / "model.safetensors").write_bytes(b"cut")
    error = error_of(capsys, "transcribe", tmp_path / "step-0000020", clip)
    assert "has 3 bytes" in error
    assert "it is damaged" in error


def test_unknown_split(trained, capsys):
    assert "split 'tets' is unknown; it takes train, dev, test" in error_of(capsys, "eval", trained, "--split", "tets")


def test_unknown_source(tmp_path, capsys):
    error = error_of(capsys, "train", "--run", tmp_path / "run", "--set", "data.source=libri")
    assert "data.source is 'libri'; it takes asterisk or synthetic" in error


def test_a_run_folder_that_cannot_be_made_is_one_line(capsys):
    assert main(["train", "--synthetic", "--run", "/dev/null/x"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: /dev/null/x: Not a directory")
