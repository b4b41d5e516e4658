"""The printed table: what it shows, and that no unit of speed is in it."""

import dataclasses
import re

from lisa_kernels.testing.static.gates import Allowance, Verdict
from lisa_kernels.testing.static.table import Row, allowed, failures, table, trust_line, unused
from tests.testing.static.samples import KERNEL, kernel

SPEED = re.compile(r"\b([TG]FLOP|TFLOPS|GB/s|TB/s|ms|us|µs|seconds)\b", re.IGNORECASE)


def text_of(*rows):
    return "\n".join(table(rows))


def test_a_row_shows_resources_limit_instructions_and_model():
    shown = text_of(Row("op", "matmul bf16", "sm_80", KERNEL))
    for part in ("matmul bf16", "sm_80", "128", "2/SM, registers", "HMMA", "0.80", "0.60 (0.58-0.62)", "LDGSTS.128 8"):
        assert part in shown


def test_a_range_that_is_too_wide_is_not_shown_as_a_figure():
    shown = text_of(Row("op", "job", "sm_80", kernel(loop={"sim_range": (0.5, 0.7)})))
    assert "not measured (0.50-0.70)" in shown
    assert "0.60 (" not in shown


def test_a_pipelined_loop_is_shown_by_its_stages():
    loop = {"copy_groups": 8, "instructions": 800, "latency_1block": 2000.0, "barriers": 0}
    shown = text_of(Row("op", "job", "sm_80", kernel(loop=loop)))
    assert "a stage: 100 instructions, 250 model cycles, 0 barriers (of 8)" in shown
    assert "a stage" not in text_of(Row("op", "job", "sm_80", kernel(loop={"copy_groups": 0})))


def test_a_kernel_without_figures_shows_the_reason_and_counts_as_failed():
    row = Row("op", "job", "sm_80", None, "no nvdisasm")
    assert "no figures: no nvdisasm" in text_of(row)
    assert row.failed
    assert "no nvdisasm" in "\n".join(failures([row]))


def test_failed_and_allowed_gates_have_a_line_each_and_passed_ones_none():
    passed = Verdict("mma", "passed", "HMMA")
    verdicts = (Verdict("spills", "failed", "4 spills"), Verdict("width", "allowed", "LDG.32", "why"), passed)
    row = Row("op", "job", "sm_80", KERNEL, verdicts=verdicts)
    assert row.failed
    assert list(failures([row])) == ["  op, job, sm_80: spills: 4 spills"]
    other = dataclasses.replace(row, target="sm_90")
    assert list(allowed([row, other])) == ["  op, job: width: why (sm_80, sm_90)"]


def test_an_exception_that_nothing_needs_is_named():
    """One that is used and one for another target."""
    used, needless = (Allowance("matmul*", target, "width", f"on {target}", 32) for target in ("sm_80", "sm_90"))
    row = Row("op", "job", "sm_80", KERNEL, verdicts=(Verdict("width", "allowed", "LDG.32", "why"),))
    assert list(unused([used, needless], [row])) == ["  matmul*, sm_90: width: on sm_90"]


def test_the_line_below_says_static_and_how_far_to_trust_it():
    line = trust_line(["triton 3.9.0"])
    assert line.startswith("static, compiled only, nothing was run (triton 3.9.0)")
    assert "0.95 to 1.51" in line
    assert "\n" not in line


def test_where_nothing_was_compiled_nothing_is_said_of_a_model():
    assert trust_line([]) == "static: nothing compiled."


def test_no_unit_of_speed_is_printed():
    row = Row("op", "job", "sm_80", KERNEL)
    assert not SPEED.search(text_of(row) + trust_line(["triton 3.9.0"]) + str(KERNEL))
    assert SPEED.search("312 TFLOPS"), "else the check finds nothing"
