"""Values, gradients and behaviour of every small case, in every dtype, on every backend that can run here."""

import pytest

from lisa_kernels.testing import judge_case
from lisa_kernels.testing.rows import FAILED, SKIPPED


def assert_no_failure(rows):
    failed = [f"{row.case}, {row.dtype}, {row.check}: {row.message}" for row in rows if row.status == FAILED]
    assert not failed, "\n".join(failed)


def test_small_cases_match_the_definition(spec, backend):
    """Every case, in every dtype; behaviour (bits, strides, memory) included."""
    for case in spec.cases:
        for dtype in spec.dtypes:
            rows = judge_case(spec, case, dtype, backend=backend, threads=(1, 2))
            assert_no_failure(rows)
            assert len(rows) > 5, "the judge must have looked at something"


def test_uneven_thread_counts_give_the_same_bits(spec, backend):
    """Three and four threads split rows where one and two do not; one case: they cost most of the time."""
    assert_no_failure(judge_case(spec, spec.cases[0], spec.dtypes[0], backend=backend, threads=(1, 2, 3, 4)))


@pytest.mark.slow
def test_large_cases_match_the_definition(spec, backend):
    for case in spec.full:
        rows = judge_case(spec, case, spec.dtypes[0], backend=backend, behaviour=False)
        assert_no_failure(rows)
        assert all(row.status != SKIPPED for row in rows), rows[0].message
