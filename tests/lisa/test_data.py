"""The sampler without state, data folders, and collating."""

import pytest
import torch

from lisa import audio, data, synthetic
from lisa.collate import collate
from lisa.config import AugmentConfig
from lisa.data import Sample
from lisa.errors import InputError

SECONDS = [0.4 + 0.37 * (index % 23) for index in range(101)]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_holds_every_sample_once(epoch):
    groups = data.batches(SECONDS, batch_seconds=30.0, seed=1, epoch=epoch)
    assert sorted(index for group in groups for index in group) == list(range(101))


def test_batches_are_even_in_seconds():
    groups = data.batches(SECONDS, batch_seconds=30.0, seed=1, epoch=0)
    totals = [sum(SECONDS[index] for index in group) for group in groups]
    assert max(totals) < 30.0 + max(SECONDS)
    assert min(totals) > 30.0 - 2 * max(SECONDS)


def test_order_is_fixed_by_seed_and_epoch_alone():
    def first(seed, epoch):
        return data.batches(SECONDS, batch_seconds=30.0, seed=seed, epoch=epoch)

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)


def test_a_step_past_the_epoch_is_in_the_next_one():
    number = data.batch_count(SECONDS, batch_seconds=30.0)
    want = data.batches(SECONDS, batch_seconds=30.0, seed=1, epoch=1)[0]
    assert data.indices_at(SECONDS, number, batch_seconds=30.0, seed=1) == want


def test_one_long_clip_among_short_ones_still_gives_batches():
    for step in range(40):
        assert data.indices_at([0.3, 60.0, 0.3], step, batch_seconds=8.0, seed=1)


def test_folder_without_data_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"no data folder .*Run 'lisa data get --folder .*--synthetic"):
        data.read(tmp_path / "nowhere", "train")


def folder_with(tmp_path, rows: str):
    (tmp_path / "audio").mkdir()
    (tmp_path / "prompts.tsv").write_text("id\tsplit\tcluster\tseconds\ttext\n" + rows)
    return tmp_path


def test_unknown_split_names_those_there(tmp_path):
    folder = folder_with(tmp_path, "a\ttrain\ta\t1.0\ta\n")
    with pytest.raises(InputError, match=r"split 'tets' is not in .*; it takes train"):
        data.read(folder, "tets")


def test_damaged_list_is_refused(tmp_path):
    (tmp_path / "prompts.tsv").write_text("what\n1\n")
    with pytest.raises(InputError, match="lacks rows or columns"):
        data.read(tmp_path, "train")


def test_clip_missing_from_the_folder_is_named(tmp_path):
    folder = folder_with(tmp_path, "hello\ttrain\thello\t1.0\thello\n")
    with pytest.raises(InputError, match=r"hello\.g722 does not exist"):
        data.read(folder, "train")


@pytest.mark.parametrize("row", ["a\ttrain\ta\tnan\ta\n", "a\ttrain\ta\t0\ta\n", "a\ttrain\ta\t1.0\n"])
def test_row_without_length_or_text_is_named(tmp_path, row):
    folder = folder_with(tmp_path, "b\ttrain\tb\t1.0\tb\n" + row)
    with pytest.raises(InputError, match=r"prompts\.tsv line 3 has length .*; it takes a number above 0 and a text"):
        data.read(folder, "train")


@pytest.mark.parametrize("content", ["[]", "{}", "3", "null"])
def test_json_that_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json (is damaged|lacks name, licence)"):
        data.manifest(tmp_path)


def test_no_text_or_cluster_is_in_two_parts(asterisk):
    import csv

    with (asterisk / "prompts.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for column in ("text", "cluster"):
        sides = {}
        for row in rows:
            sides.setdefault(row[column], set()).add(row["split"])
        assert all(len(parts) == 1 for parts in sides.values())


def test_targets_and_features_are_padded_with_their_lengths():
    samples = synthetic.samples("train", seed=1)[:5]
    batch = collate(samples, mels=40)
    assert batch.targets.lengths.tolist() == [len(sample.text) for sample in samples]
    frames = [1 + sample.speech.numel() // 160 for sample in samples]
    assert batch.inputs["speech"].lengths.tolist() == frames
    assert batch.inputs["speech"].values.shape == (5, max(frames), 40)


def test_absent_modality_is_absent_and_not_zero():
    batch = collate([Sample("a", text="a"), Sample("b", speech=torch.zeros(800))], mels=40)
    assert batch.inputs == {}
    assert batch.targets is None


def test_augmentation_depends_on_seed_and_step_alone():
    samples, augment = synthetic.samples("train", seed=1)[:3], AugmentConfig()
    torch.manual_seed(1)
    first = collate(samples, mels=40, augment=augment, seed=1, step=5).inputs["speech"].values
    torch.manual_seed(2)
    again = collate(samples, mels=40, augment=augment, seed=1, step=5).inputs["speech"].values
    other = collate(samples, mels=40, augment=augment, seed=1, step=6).inputs["speech"].values
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_too_short_clip_is_named():
    with pytest.raises(InputError, match=r"sample tiny: log_mel: waveform has 10 samples"):
        collate([Sample("tiny", speech=torch.zeros(10))], mels=40)


def test_synthetic_splits_differ_and_are_fixed_by_the_seed():
    train, again, test = (synthetic.samples(split, seed=1) for split in ("train", "train", "test"))
    assert all(torch.equal(a.speech, b.speech) for a, b in zip(train, again, strict=True))
    assert not {sample.id for sample in train} & {sample.id for sample in test}
    assert train[0].speech.numel() == len(train[0].text) * round(synthetic.CHARACTER_S * audio.SAMPLE_RATE_HZ)
    with pytest.raises(InputError, match="split 'x' is unknown; it takes train, dev, test"):
        synthetic.samples("x", seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id\tsplit\tcluster\tseconds\ttext\na\ttest\t1\tlong\thi\n", r"prompts\.tsv is damaged \(could not convert"),
        (b"id\tsplit\tcluster\tseconds\ttext\na\ttest\t1\t2\t\xff\n", r"prompts\.tsv is damaged \('utf-8' codec"),
        (b"id\tsplit\tcluster\tseconds\ttext\na\ttest\t1\t2\thi\n", r"split 'test' of .* has no prompt of at most 1 s"),
    ],
    ids=["seconds", "encoding", "all too long"],
)
def test_a_damaged_or_too_short_list_is_explained(tmp_path, content, message):
    (tmp_path / "prompts.tsv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        data.read(tmp_path, "test", max_seconds=1.0)


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        data.manifest(tmp_path)
