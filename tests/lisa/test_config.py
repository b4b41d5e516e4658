"""Configs: YAML, settings, and messages for what is wrong."""

from dataclasses import asdict

import pytest

from lisa.builders import PRESETS, build_model, parameter_count, preset
from lisa.config import Config
from lisa.errors import InputError
from lisa.settings import difference, merge, parse_settings, read_yaml


def test_settings_lie_over_the_preset():
    config = merge(preset("asr-tiny"), parse_settings(["train.lr=1e-3", "model.towers.speech.depth=2"]))
    assert config.train.lr == 1e-3
    assert config.model.towers["speech"].depth == 2
    assert config.model.towers["speech"].width == preset("asr-tiny").model.towers["speech"].width


def test_yaml_lies_over_the_preset(tmp_path):
    (tmp_path / "a.yaml").write_text("train: {steps: 7}\naugment: {speeds: [1.0]}\n")
    config = merge(preset("asr-test"), read_yaml(tmp_path / "a.yaml"))
    assert (config.train.steps, config.augment.speeds) == (7, [1.0])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_the_way_through_a_dict(name):
    assert asdict(merge(Config(), asdict(preset(name)))) == asdict(preset(name))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.stepz=3", r"unknown key train\.stepz; it takes steps, lr.*Did you mean train\.steps\?"),
        ("trian.steps=3", r"unknown key trian; .*Did you mean train\?"),
        ("model.towers.speech.with=3", r"unknown key model\.towers\.speech\.with; .*towers\.speech\.width\?"),
        ("xyzzy=3", r"unknown key xyzzy; it takes data, augment.*Remove the line"),
        ("train=3", r"config: train is 3; it takes a mapping of steps"),
        ("train.steps=many", r"train\.steps .*many.*Give a value of that type"),
        ("model.towers.speech.heads=0", r"model\.towers\.speech\.heads is 0; it takes 1 or more"),
        ("model.towers.speech.depth=-1", r"model\.towers\.speech\.depth is -1; it takes 0 or more"),
        ("model.towers.speech.dropout=2", r"model\.towers\.speech\.dropout is 2\.0; it takes 0 to 0\.99"),
        ("train.seed=-1", r"train\.seed is -1; it takes 0 to 4294967295"),
        ("train.warmup=-5", r"train\.warmup is -5; it takes 0 or more"),
        ("train.steps=0", r"train\.steps is 0; it takes a number above 0"),
        ("augment.speeds=[3.0]", r"augment\.speeds is \[3\.0\]; it takes numbers from 0\.5 to 2"),
        ("train.steps", r"'train\.steps' is no setting; it takes key\.key=value"),
    ],
)
def test_wrong_setting_is_explained(setting, message):
    with pytest.raises(InputError, match=message):
        merge(preset("asr-tiny"), parse_settings([setting]))


def test_broken_yaml_is_explained(tmp_path):
    (tmp_path / "a.yaml").write_text("train: [1,\n")
    with pytest.raises(InputError, match=r"a\.yaml is not YAML"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"b\.yaml cannot be read"):
        read_yaml(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(InputError, match=r"c\.yaml holds a list; it takes a mapping"):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.towers.speech.stem=mell",
            r"model\.towers\.speech\.stem is 'mell'; it takes mel\. Did you mean mel\?",
        ),
        ("model.towers.speech.heads=5", r"width is \d+ with 5 heads; it takes a multiple of 8 x heads = 40"),
        ("model.towers.speech.kernel=4", r"kernel is 4; it takes an odd number, or 0"),
        ("model.heads.ctc.tower=sound", r"heads\.ctc\.tower is 'sound'; it takes a tower: speech"),
        ("model.heads.ctc.kind=ctx", r"heads\.ctc\.kind is 'ctx'; it takes ctc\. Did you mean ctc\?"),
    ],
)
def test_wrong_model_is_explained(setting, message):
    with pytest.raises(InputError, match=message):
        build_model(merge(preset("asr-tiny"), parse_settings([setting])))


def test_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match=r"preset is 'asr-tny'; it takes asr-test, asr-tiny\. Did you mean asr-tiny\?"):
        preset("asr-tny")


def test_difference_names_the_leaves():
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c: 2 is not 3"]


def test_demo_model_has_the_size_its_docstring_states():
    millions = parameter_count(build_model(preset("asr-tiny"))) / 1e6
    assert f"about {millions:.1f} M parameters" in PRESETS["asr-tiny"].__doc__
