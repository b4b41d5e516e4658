"""Every edge of the semantics and every bad input of the specs."""

import pytest
import torch

from lisa_kernels.testing import judge_bad_input, judge_case
from lisa_kernels.testing.rows import PASSED
from tests.contract.test_numerics import assert_no_failure


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_edges_match_the_definition(spec, backend, dtype):
    if dtype not in spec.dtypes:
        pytest.skip(f"{spec.name} does not take {dtype}")
    for case in spec.edges:
        assert_no_failure(judge_case(spec, case, dtype, backend=backend, behaviour=False))


def test_edges_behave(spec, backend):
    """Bits, strides and memory at the edges, in the first dtype."""
    for case in spec.edges:
        rows = judge_case(spec, case, spec.dtypes[0], backend=backend, threads=(1, 2))
        assert_no_failure([row for row in rows if row.error is None])


def test_bad_inputs_raise_the_error_of_the_spec(spec, backend):
    rows = [judge_bad_input(spec, bad, backend=backend) for bad in spec.bad_inputs]
    assert rows
    assert not [f"{row.case}: {row.message}" for row in rows if row.status != PASSED]
