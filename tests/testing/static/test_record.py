"""Figures kept by toolchain version."""

import json

import pytest

from lisa_kernels.testing.static.figures import from_json
from lisa_kernels.testing.static.record import find, read_record, take, write_record
from lisa_kernels.testing.static.table import Row
from tests.testing.static.samples import KERNEL, kernel

TOOLCHAIN = "triton 3.9.0"


def test_what_was_written_is_read(tmp_path):
    path = write_record(tmp_path, TOOLCHAIN, [("op", "sm_80", "job", KERNEL)])
    assert path.name == "triton-3.9.0.json"
    assert find(read_record(tmp_path, TOOLCHAIN), "op", "sm_80", "job") == take(KERNEL)


@pytest.mark.parametrize("where", [("other", "sm_80", "job"), ("op", "sm_90", "job"), ("op", "sm_80", "other")])
def test_other_jobs_have_no_record(tmp_path, where):
    write_record(tmp_path, TOOLCHAIN, [("op", "sm_80", "job", KERNEL)])
    assert find(read_record(tmp_path, TOOLCHAIN), *where) is None


def test_another_toolchain_has_no_record(tmp_path):
    write_record(tmp_path, TOOLCHAIN, [("op", "sm_80", "job", KERNEL)])
    assert read_record(tmp_path, "triton 3.9.1") is None


def test_recording_one_op_keeps_the_others_and_drops_its_own_old_jobs(tmp_path):
    write_record(tmp_path, TOOLCHAIN, [("a", "sm_80", "old", KERNEL), ("b", "sm_80", "job", KERNEL)])
    write_record(tmp_path, TOOLCHAIN, [("a", "sm_80", "new", KERNEL), ("a", "sm_90", "job", KERNEL)])
    record = read_record(tmp_path, TOOLCHAIN)
    assert set(record["a"]["sm_80"]) == {"new"}
    assert set(record["a"]) == {"sm_80", "sm_90"}
    assert find(record, "b", "sm_80", "job") == take(KERNEL)


@pytest.mark.parametrize("text", ["no json", "{}", '{"figures": {"op": {"sm_80": {"job": {"speed": 3}}}}}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "triton-3.9.0.json").write_text(text)
    with pytest.raises(ValueError, match=r"triton-3\.9\.0\.json is no record"):
        read_record(tmp_path, TOOLCHAIN)


def test_figures_survive_json():
    for figures in (KERNEL, kernel(loop={"sim_range": None, "sim": None})):
        row = json.loads(json.dumps(Row("op", "job", "sm_80", figures).to_json()))
        assert from_json(row["figures"]) == figures
        assert row["kind"] == "static"


def test_recording_one_target_keeps_the_others(tmp_path):
    write_record(tmp_path, TOOLCHAIN, [("op", "sm_80", "job", KERNEL)])
    write_record(tmp_path, TOOLCHAIN, [("op", "sm_90", "job", KERNEL)])
    assert set(read_record(tmp_path, TOOLCHAIN)["op"]) == {"sm_80", "sm_90"}
