"""Outputs of tools, right ones and broken ones."""

import json
import subprocess
import sys

import pytest

from bench.gpu.readers import read_bench, read_ncu, read_pytest, read_rows, read_sanitizer, read_smi, read_verify
from bench.gpu.tools import Finished
from tests.bench.gpu.stand_in import NCU, RACE_FREE, SANITIZED, SMI, timed


def ended(output, status=0):
    return Finished(status, output, 1.0)


PLANTED = """
import pytest
def test_right(): pass
def test_wrong(): assert 1 == 2, "planted"
def test_left_out(): pytest.skip("needs a second GPU: has one (of two)")
@pytest.fixture
def broken(): raise ValueError("planted in a fixture")
def test_unreached(broken): pass
@pytest.mark.parametrize("x", ["a-b", "float32"])
def test_many(x): pass
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """What the installed pytest prints of five kinds of tests, with the options of the kit."""
    root = tmp_path_factory.mktemp("planted")
    (root / "tests").mkdir()
    (root / "tests" / "test_planted.py").write_text(PLANTED)
    options = ["-v", "-rfE", "--color=no", "-p", "no:cacheprovider", "--rootdir=."]
    command = ["env", "COLUMNS=1000", sys.executable, "-u", "-m", "pytest", "tests", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return ended(done.stdout, done.returncode)


def test_every_test_of_a_real_session_is_a_row_with_its_reason(session):
    reading = read_pytest(session)
    found = {row["test"].partition("::")[2]: (row["outcome"], row["reason"]) for row in reading.rows}
    assert found == {
        "test_right": ("passed", ""),
        "test_wrong": ("failed", "AssertionError: planted"),
        "test_left_out": ("skipped", "needs a second GPU: has one (of two)"),
        "test_unreached": ("error", "ValueError: planted in a fixture"),
        "test_many[a-b]": ("passed", ""),
        "test_many[float32]": ("passed", ""),
    }
    assert reading.status == "red"
    assert any("planted" in note for note in reading.notes)


def test_no_test_at_all_is_red():
    assert read_pytest(ended("collected 0 items\nno tests ran in 0.01s", 5)).status == "red"


def test_a_session_in_which_everything_was_skipped_is_not_green():
    assert read_pytest(ended("tests/a.py::test_x SKIPPED (needs a GPU: torch sees none) [100%]")).status == "skipped"


def test_a_session_that_ends_badly_without_a_failed_test_is_red():
    reading = read_pytest(ended("tests/a.py::test_x PASSED\nINTERNALERROR> planted", 3))
    assert reading.status == "red"
    assert "status 3" in reading.notes[-1]


def test_settings_are_read_by_name():
    reading = read_smi(ended(SMI))
    assert reading.rows[0]["clocks.max.sm"] == "1980 MHz"
    assert reading.rows[0]["mig.mode.current"] == "Disabled"
    assert not any("WARNING" in note for note in reading.notes)


@pytest.mark.parametrize(("idle", "busy"), [("3 MiB", "9000 MiB"), ("0 %", "87 %")])
def test_a_gpu_that_others_use_is_warned_of(idle, busy):
    assert "WARNING" in read_smi(ended(SMI.replace(f", {idle}", f", {busy}"))).notes[-1]


def test_settings_that_cannot_be_read_are_skipped_with_what_was_said():
    reading = read_smi(ended("NVIDIA-SMI has failed because it couldn't communicate with the driver", 9))
    assert reading.status == "skipped"
    assert "couldn't communicate" in reading.notes[0]


def test_a_summary_of_zero_is_green():
    assert read_sanitizer(ended(SANITIZED)).status == "green"
    assert read_sanitizer(ended(RACE_FREE)).status == "green"


def test_the_first_finding_is_told():
    output = (
        "========= COMPUTE-SANITIZER\n========= Invalid __global__ read of size 4 bytes\n"
        "=========     at ctc_fwd_kernel+0x2b0\n========= ERROR SUMMARY: 17 errors\n"
    )
    reading = read_sanitizer(ended(output, 9))
    assert reading.status == "red"
    assert "17 findings" in reading.notes[0]
    assert "ctc_fwd_kernel" in reading.notes[0]


def test_a_summary_of_zero_does_not_hide_a_failed_run():
    assert read_sanitizer(ended(SANITIZED, 1)).status == "red"


def test_without_a_summary_nothing_is_claimed():
    reading = read_sanitizer(ended("Error: Target application terminated before first instrumented API call", 255))
    assert reading.status == "skipped"
    assert "no summary" in reading.notes[0]


def test_counters_of_each_launch_are_read_past_the_profiler_s_own_lines():
    (row,) = read_ncu(ended(NCU)).rows
    assert row == {
        "profiler": "ncu",
        "kernel": "ctc_fwd_kernel",
        "Duration": "12,345.6 us",
        "DRAM Throughput": "71.2 %",
        "Registers Per Thread": "64 register/thread",
    }


def test_a_profiler_without_a_table_is_skipped():
    assert read_ncu(ended("==WARNING== No kernels were profiled.")).status == "skipped"


def test_a_verification_that_wrote_nothing_is_red(tmp_path):
    assert read_verify(tmp_path / "none.json")(ended("Segmentation fault", -11)).status == "red"


def test_a_verification_that_only_skipped_is_not_green(tmp_path):
    path = tmp_path / "verify.json"
    path.write_text(json.dumps({"passed": 0, "failed": 0, "skipped": 1, "rows": []}))
    assert read_verify(path)(ended("")).status == "skipped"


def test_a_bench_with_a_fault_of_ours_is_red_and_names_it(tmp_path):
    path = tmp_path / "bench.json"
    rows = timed("ctc_loss")
    rows[0] |= {"status": "error", "reason": "planted"}
    path.write_text(json.dumps(rows))
    reading = read_bench(path)(ended("", 1))
    assert reading.status == "red"
    assert "planted" in reading.notes[1]


def test_a_bench_without_a_figure_is_not_green(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(timed("ctc_loss")[2:]))
    assert read_bench(path)(ended("")).status == "red"


def test_a_failed_row_is_red(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"status": "failed", "message": "out_ptr[0]: got 1, expected 2."}]))
    reading = read_rows(path)(ended(""))
    assert (reading.status, reading.notes) == ("red", ("out_ptr[0]: got 1, expected 2.",))
