"""What a reader of ``report.md`` finds, and where."""

import pytest

from tests.bench.gpu.stand_in import DEVICE, says, timed, verified, writes


def section(report, title):
    assert f"## {title}" in report, f"no section {title}"
    return report.partition(f"## {title}")[2].partition("\n## ")[0]


def test_the_first_lines_name_device_versions_commit_and_verdict(kit):
    kit()
    first = "\n".join(kit.report.splitlines()[:6])
    for told in (DEVICE, "2031-05-06", "GREEN", "driver 580.1", "torch 2.13.0+cu130", "nvcc 13.0", "commit abc1234"):
        assert told in first
    assert "clocks.max.sm 1980 MHz" in first


def test_each_op_backend_and_dtype_has_a_mark(kit):
    kit()
    right = section(kit.report, "Right")
    for backend in ("cuda", "reference"):
        for dtype in ("float32", "bfloat16"):
            assert f"| ctc_loss | {backend} | {dtype} | green | 3 of 3 |" in right


def test_a_failure_marks_its_own_dtype_only(kit):
    kit.machine.replies = [("verify ctc_loss --backend cuda", writes(verified("ctc_loss", "cuda", failed=1), status=1))]
    kit()
    right = section(kit.report, "Right")
    assert "| ctc_loss | cuda | float32 | RED | 2 of 3 |" in right
    assert "| ctc_loss | cuda | bfloat16 | green | 3 of 3 |" in right


def test_speed_is_shown_with_spread_and_ratio_to_ours(kit):
    kit()
    fast = section(kit.report, "Fast")
    assert "| ctc_loss | words | float32 | fwd+bwd | lisa cuda * | 2.000 | 1.800-2.500 | 7 | 1.00x |" in fast
    assert "| torch peer | 5.000 | 1.800-2.500 | 7 | 2.50x |" in fast
    assert "absent peer" not in fast


def test_a_peer_that_is_not_installed_is_among_what_was_left_out(kit):
    kit()
    assert "absent peer (ctc_loss): unavailable: not installed" in section(kit.report, "Left out, and why")


def test_reasons_of_skipped_tests_are_told(kit):
    kit()
    assert "tests: route has no cuda kernels [1]" in section(kit.report, "Left out, and why")


def test_the_emulator_is_set_beside_the_gpu(kit):
    kit()
    assert "1 ulp at most, 99.3% equal" in section(kit.report, "The emulator judged by this GPU")


def test_times_under_a_profiler_are_not_among_the_speeds(kit):
    kit()
    assert "12,345.6 us" in section(kit.report, "Profiles")
    assert "12,345.6" not in section(kit.report, "Fast")


def test_without_figures_there_is_no_speed(kit):
    kit.machine.replies = [("-m bench run", says("killed", 1))]
    assert kit() == 1
    assert " ms" not in section(kit.report, "Fast")


@pytest.mark.parametrize("name", ["Right", "Fast", "Left out, and why"])
def test_the_first_page_comes_before_the_details(kit, name):
    kit()
    assert kit.report.index(f"## {name}") < kit.report.index("## Every part")


def test_a_bar_in_a_message_does_not_break_the_table(kit):
    kit.machine.replies = [("--tool memcheck", says("========= a | b\n========= ERROR SUMMARY: 1 error\n", 9))]
    kit()
    row = next(line for line in section(kit.report, "Sanitizers").splitlines() if "memcheck" in line)
    assert row.replace("\\|", "").count("|") == 6


def test_red_parts_of_any_step_are_on_the_first_page(kit):
    kit.machine.replies = [("--tool memcheck", says("========= ERROR SUMMARY: 1 error\n", 9))]
    kit()
    assert "**red** sanitizer, memcheck: 1 findings" in section(kit.report, "Right")


def test_forward_alone_is_shown_only_where_there_is_no_backward(kit):
    forward = {op: [row | {"mode": "fwd", "median_ms": 1.25} for row in timed(op)[:2]] for op in ("ctc_loss", "route")}
    kit.machine.replies = [
        ("bench run ctc_loss", writes(timed("ctc_loss") + forward["ctc_loss"])),
        ("bench run route", writes(forward["route"])),
    ]
    kit()
    fast = section(kit.report, "Fast")
    assert fast.count("| 1.250 |") == 2
    assert sum(row.get("median_ms") == 1.25 for row in kit.rows) == 4
