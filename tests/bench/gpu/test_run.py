"""``python -m bench gpu`` on a stand-in device: all green, tools missing, red steps, limits, a kill in between."""

import pytest

from bench.gpu.steps import STEPS
from tests.bench.gpu.stand_in import PYTEST, says, timed, verified, writes


def test_all_green_is_exit_code_0_and_every_step_has_an_outcome(kit):
    assert kit() == 0
    for step in STEPS:
        assert "green" in kit.statuses(step.name).values(), step.name
        assert not {"red", "timed out"} & set(kit.statuses(step.name).values())
    assert kit.report.splitlines()[2].startswith("**GREEN**")


def test_all_budgets_together_are_below_15_minutes():
    assert sum(step.budget_s for step in STEPS) <= 15 * 60


def test_every_row_names_device_driver_versions_and_commit(kit):
    kit()
    wanted = {"device", "driver", "cuda", "torch", "triton", "nvcc", "commit", "clocks"}
    assert {row["step"] for row in kit.rows} == {step.name for step in STEPS} - {"build"}
    for row in kit.rows:
        assert wanted <= row.keys()
        assert row["commit"] == "abc1234"
        assert row["nvcc"] == "13.0"
    assert {row["clocks"]["clocks.sm"] for row in kit.rows if row["step"] == "bench"} == {"210 MHz"}


def test_a_row_of_bench_keeps_its_figures(kit):
    kit()
    ours = [row for row in kit.rows if row["step"] == "bench" and row.get("ours")]
    assert [(row["op"], row["median_ms"], row["clock"]) for row in ours] == [
        ("ctc_loss", 2.0, "cuda events"),
        ("route", 2.0, "cuda events"),
    ]


def test_no_tool_changes_a_setting(kit):
    kit()
    (ncu,) = kit.machine.ran_with("/opt/ncu")
    assert "--clock-control none" in ncu
    smi = kit.machine.ran_with("nvidia-smi")
    assert len(smi) == 2, "as found, and after timing"
    assert all("--query-gpu" in command for command in smi)


@pytest.mark.parametrize(
    ("tool", "step", "part", "reason"),
    [
        ("nvidia-smi", "machine", "settings", "nvidia-smi is not in PATH"),
        ("nvcc", "build", "CUDA kernels", "nvcc is not in PATH"),
        ("compute-sanitizer", "sanitizer", "all tools", "compute-sanitizer is not in PATH"),
        ("ncu", "profile", "ncu", "ncu is not in PATH"),
    ],
)
def test_a_missing_tool_is_a_printed_reason_and_no_failure(kit, tool, step, part, reason):
    del kit.machine.programs[tool]
    assert kit() == 0
    assert kit.statuses(step)[part] == "skipped"
    assert any(reason in line for line in kit.said)
    assert reason in kit.report.partition("## Left out, and why")[2].partition("\n## ")[0]


def test_without_ncu_or_its_permission_torch_profiles(kit):
    kit.machine.replies = [("/opt/ncu", says("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n", 1))]
    assert kit() == 0
    assert kit.statuses("profile") == {"ncu": "skipped", "torch profiler": "green"}
    assert "the driver denies profiling" in kit.report


def test_backends_that_refuse_are_skipped_with_their_reason(kit):
    kit()
    assert kit.statuses("verify")["ctc_loss on triton"] == "skipped"
    assert "ctc_loss has no triton kernels" in kit.report


def test_a_red_op_is_not_timed_and_the_others_are(kit):
    kit.machine.replies = [("verify ctc_loss --backend cuda", writes(verified("ctc_loss", "cuda", failed=1), status=1))]
    assert kit() == 1
    assert kit.statuses("bench") == {"ctc_loss": "skipped", "route": "green"}
    assert not kit.machine.ran_with("bench run ctc_loss")
    assert "ctc_loss:cuda" not in kit.machine.ran_with("/opt/ncu")[0]
    assert "got 3, expected 4" in kit.report


def test_a_red_step_stops_only_what_depends_on_it(kit):
    red = (
        PYTEST.replace("PASSED", "FAILED") + "FAILED tests/gpu/test_device.py::test_values[ctc-cuda-float32] - wrong\n"
    )
    kit.machine.replies = [("-m pytest", says(red, 1))]
    assert kit() == 1
    assert kit.statuses("tests") == {"pytest -m gpu": "red"}
    assert kit.statuses("bench") == {"ctc_loss": "green", "route": "green"}


def test_a_kernel_that_fails_alone_is_not_put_under_the_sanitizers(kit):
    kit.machine.replies = [("bench.gpu.drive", says("RuntimeError: illegal address", 1))]
    assert kit() == 1
    assert kit.statuses("sanitizer") == {"without a tool": "red", "all tools": "skipped"}
    assert not kit.machine.ran_with("memcheck")


@pytest.mark.parametrize(
    ("tool", "output"),
    [
        ("memcheck", "========= Invalid __global__ read of size 4 bytes\n========= ERROR SUMMARY: 3 errors\n"),
        ("racecheck", "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n"),
        ("initcheck", "========= Uninitialized __global__ memory read\n========= ERROR SUMMARY: 1 error\n"),
        ("synccheck", "========= Barrier error detected.\n========= ERROR SUMMARY: 2 errors\n"),
    ],
)
def test_a_finding_of_a_sanitizer_is_red(kit, tool, output):
    kit.machine.replies = [(f"--tool {tool}", says(output, 9))]
    assert kit() == 1
    assert kit.statuses("sanitizer")[tool] == "red"
    assert sum(status == "red" for status in kit.statuses("sanitizer").values()) == 1


def test_a_command_over_its_limit_is_killed_and_said(kit):
    kit.machine.slow = [("-m pytest", 500.0)]
    assert kit() == 1
    assert kit.statuses("tests") == {"pytest -m gpu": "timed out"}
    assert "killed after 180 s" in kit.notes("tests", "pytest -m gpu")
    assert "killed after 180 s" in kit.report
    assert kit.report.splitlines()[2].startswith("**RED**")


def test_the_tests_that_ran_before_a_kill_are_rows(kit):
    kit.machine.slow = [("-m pytest", 500.0)]
    kit()
    assert [row["outcome"] for row in kit.rows if row["step"] == "tests"] == ["passed", "skipped"]


def test_one_that_hangs_leaves_the_others_their_share_of_the_step(kit):
    kit.machine.slow = [("verify ctc_loss --backend cuda", 1000.0)]
    assert kit() == 1
    found = kit.statuses("verify")
    assert found["ctc_loss on cuda"] == "timed out"
    assert {found[part] for part in ("ctc_loss on reference", "route on triton", "route on reference")} == {"green"}


def test_a_step_never_takes_more_than_its_budget(kit):
    kit.machine.slow = [("lisa_kernels.verify", 1000.0), ("--tool", 1000.0), ("-m bench run", 1000.0)]
    kit()
    assert kit.machine.now <= sum(step.budget_s for step in STEPS)


def test_a_part_that_found_no_time_says_so(kit):
    kit.machine.slow = [("nvidia-smi", 29.5)]
    kit.machine.replies = [("bench.gpu.specimens", _spend(kit.machine, 59.5))]
    kit.machine.probe["specimens"] = ["matmul", "softmax"]
    assert kit() == 1
    assert kit.notes("compare", "softmax") == "not begun: the step's 60 s were spent"


def _spend(machine, seconds):
    def reply(command):
        machine.now += seconds
        return says("gone")(command)

    return reply


def test_a_killed_bench_keeps_the_figures_it_wrote(kit):
    kit.machine.slow = [("bench run ctc_loss", 1000.0)]
    assert kit() == 1
    assert kit.statuses("bench") == {"ctc_loss": "timed out", "route": "green"}
    ours = [row for row in kit.rows if row["part"] == "ctc_loss" and row.get("ours")]
    assert [row["median_ms"] for row in ours] == [2.0]


def test_output_that_cannot_be_read_is_red_and_the_run_goes_on(kit):
    kit.machine.replies = [("lisa_kernels.verify route", says("Segmentation fault", -11))]
    assert kit() == 1
    assert kit.statuses("verify")["route on triton"] == "red"
    assert kit.statuses("bench")["ctc_loss"] == "green"


def test_an_error_inside_a_step_does_not_end_the_run(kit):
    del kit.machine.probe["specimens_why_not"]
    assert kit() == 1
    assert kit.statuses("compare")["the step itself"] == "red"
    assert "green" in kit.statuses("bench").values()


def test_a_second_run_repeats_nothing_that_finished(kit):
    kit()
    first = list(kit.machine.ran)
    kit.machine.ran.clear()
    assert kit() == 0
    assert {word for command in kit.machine.ran for word in command.split()} & {
        "pytest",
        "lisa_kernels.verify",
    } == set()
    assert len(kit.machine.ran) < len(first) / 2
    assert "kept from the run before" in "\n".join(kit.said)


def test_an_old_file_is_never_read_as_the_result_of_a_command_that_wrote_none(kit):
    kit()
    kit.machine.replies = [("lisa_kernels.verify", says("ended early, status 0"))]
    assert kit(repeat=("verify",)) == 1
    assert "green" not in kit.statuses("verify").values()


def test_files_of_kept_parts_stay(kit):
    kit()
    before = sorted(path.name for path in (kit.folder / "output").iterdir())
    kit()
    assert sorted(path.name for path in (kit.folder / "output").iterdir()) == before


def test_fresh_repeats_everything(kit):
    kit()
    count = len(kit.machine.ran)
    kit(fresh=True)
    assert len(kit.machine.ran) == 2 * count


def test_fresh_does_not_go_on_in_the_folder_of_another_day(kit):
    kit.machine.replies = [("-m pytest", interrupt)]
    kit()
    kit.machine.replies, kit.machine.date = [], "2031-05-07"
    kit(fresh=True)
    assert sorted(path.name[-10:] for path in kit.root.iterdir()) == ["2031-05-06", "2031-05-07"]


def test_one_step_can_be_repeated(kit):
    kit()
    kit.machine.ran.clear()
    kit(repeat=("tests",))
    assert len(kit.machine.ran_with("-m pytest")) == 1
    assert not kit.machine.ran_with("lisa_kernels.verify")


def test_a_red_part_is_kept_and_a_skipped_or_killed_one_is_repeated(kit):
    kit.machine.replies = [
        ("-m pytest", says(PYTEST, 3)),
        ("--tool memcheck", says("Unable to connect")),
    ]
    kit()
    kit.machine.ran.clear()
    kit.machine.replies = []
    kit()
    assert not kit.machine.ran_with("-m pytest")
    assert kit.machine.ran_with("--tool memcheck")


def interrupt(command):
    raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_in_its_folder_even_on_another_day(kit):
    kit.machine.replies = [("bench.gpu.specimens", interrupt)]
    assert kit() == 130
    assert "not reached: compare, sanitizer, bench, clocks, profile" in kit.report
    before = kit.rows
    kit.machine.replies, kit.machine.date = [], "2031-05-07"
    kit.machine.ran.clear()
    assert kit() == 0
    assert kit.folder.name.endswith("2031-05-06")
    assert not kit.machine.ran_with("lisa_kernels.verify")
    assert kit.machine.ran_with("-m bench run")
    assert all(row in kit.rows for row in before)


def test_rows_of_an_earlier_run_stay_on_disk_while_it_goes_on(kit):
    """A second kill must not lose what the first run measured."""
    kit.machine.replies = [("/opt/ncu", interrupt)]
    assert kit() == 130
    before = kit.rows
    kit.machine.replies = [("-m pytest", interrupt)]
    assert kit(repeat=("tests",)) == 130
    kept = [row for row in before if row["step"] != "tests"]
    assert kept
    assert all(row in kit.rows for row in kept)


def test_an_interrupted_fresh_run_takes_nothing_from_before(kit):
    kit()
    kit.machine.replies = [("lisa_kernels.verify", interrupt)]
    kit(fresh=True)
    kit.machine.replies = []
    kit.machine.ran.clear()
    kit()
    assert kit.machine.ran_with("-m bench run")
    assert not kit.machine.ran_with("-m pytest")


@pytest.mark.parametrize("change", [{"commit": "def5678"}, {"driver": "590.0"}, {"torch": "2.13.1+cu130"}])
def test_another_commit_or_version_repeats_everything(kit, change):
    kit()
    kit.machine.ran.clear()
    kit.machine.probe |= change
    kit()
    assert kit.machine.ran_with("-m pytest")
    assert {row[name] for row in kit.rows for name in change} == set(change.values())


def test_uncommitted_changes_repeat_everything(kit):
    kit()
    kit.machine.ran.clear()
    kit.machine.replies = [("git diff", says("+ a line"))]
    kit()
    assert kit.machine.ran_with("-m pytest")


def test_no_half_written_file_is_left(kit):
    kit()
    assert not list(kit.root.rglob("*.half"))


def test_a_step_to_repeat_must_exist(kit):
    with pytest.raises(ValueError, match="--repeat is 'benchmark'; it takes machine, build, tests"):
        kit(repeat=("benchmark",))


def test_amd_runs_what_applies_and_says_why_not(kit):
    kit.machine.probe |= {"hip": "7.1", "cuda": None, "arch": "gfx942", "driver": None}
    assert kit() == 0
    assert kit.statuses("sanitizer") == {"all tools": "skipped"}
    assert kit.statuses("profile") == {"ncu": "skipped", "torch profiler": "green"}
    assert "green" in kit.statuses("bench").values()
    assert "AMD" in kit.notes("build", "CUDA kernels")


def test_only_reference_means_no_profile_and_specimens_alone_are_sanitized(kit):
    kit.machine.probe["ops"] = {"ctc_loss": {"cuda": "no kernels", "triton": "no kernels", "reference": None}}
    assert kit() == 0
    assert kit.statuses("profile") == {"all kernels": "skipped"}
    (plain,) = [command for command in kit.machine.ran_with("bench.gpu.drive") if "--json" in command]
    assert "specimen:matmul" in plain
    assert ":reference" not in plain


def test_figures_that_are_not_from_cuda_events_are_not_in_the_report(kit):
    """A host clock or another device is never shown as the GPU's speed."""
    for change in ({"clock": "wall"}, {"device": "cpu"}):
        kit.machine.replies = [("-m bench run", writes(timed("ctc_loss", **change)))]
        kit(fresh=True)
        speed = kit.report.partition("## Fast")[2].partition("\n## ")[0]
        assert "2.000" not in speed
