"""Barriers and waits of the specimens, one by one, and a report that tells holes."""

import importlib.util

import pytest

from tests.mutation.report import is_enough, report, shares
from tests.mutation.run import subject_of
from tests.mutation.trial import Outcome, check_right_kernel, judge

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)


def outcome(kind, caught, kernel="k"):
    return Outcome(kernel, "PTX sm_80 of Triton", kind, 1, "a → b", caught, "")


@needs_triton
@pytest.mark.parametrize("kernel", ["matmul", "softmax", "scan"])
def test_every_barrier_and_wait_of_compiled_code_is_needed_and_its_absence_is_seen(kernel):
    subject = subject_of("ptx", kernel, "sm_80")
    check_right_kernel(subject)
    outcomes = [judge(subject, mutant) for mutant in subject.mutants if mutant.kind in ("barrier", "wait")]
    assert len(outcomes) >= 3
    assert is_enough(outcomes), "\n".join(report(outcomes))


def test_a_mutant_that_nothing_caught_is_a_hole_and_is_told():
    caught, hole = outcome("barrier", "shared race"), outcome("mask", "")
    outcomes = [caught] * 18 + [hole]
    assert shares(outcomes)["mask"] == (0, 1)
    assert not is_enough(outcomes), "18 of 19 are less than 95 %"
    assert is_enough([caught, *outcomes]), "19 of 20 are 95 %"
    assert any("a hole in the checks" in line for line in report(outcomes))


def test_the_report_counts_by_means_and_cause():
    lines = list(report([outcome("barrier", "shared race"), outcome("mask", "values"), outcome("mask", "values")]))
    assert "| PTX sm_80 of Triton | k | 3 | 3 | 0 | 0 |" in lines
    assert "| values |  |  | 2 |  |  |" in lines
    assert not any("Not caught" in line for line in lines)
