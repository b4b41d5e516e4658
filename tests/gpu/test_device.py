"""Every op on a real GPU: values and gradients in every dtype, and what only a device can show."""

import pytest
import torch

from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.core.registry import select
from lisa_kernels.testing import judge_case
from lisa_kernels.testing.plan import unavailable
from lisa_kernels.testing.rows import FAILED, SKIPPED
from tests.gpu.checks import CHECKS, EXEMPT

pytestmark = pytest.mark.gpu
SPECS = {spec.name: spec for spec in select()}
PAIRS = [(op, backend) for op in SPECS for backend in BACKENDS if backend != "cpu"]
TRIPLES = [(op, backend, dtype) for op, backend in PAIRS for dtype in SPECS[op].dtypes]


def name(value):
    return str(value).removeprefix("torch.").replace("_", "-")


def skip_where_refused(op, backend):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU: torch sees none")
    if (reason := unavailable(SPECS[op], backend, torch.device("cuda"))) is not None:
        pytest.skip(f"{op} on {backend}: {reason}")


@pytest.mark.parametrize(("op", "backend", "dtype"), TRIPLES, ids=name)
def test_values_and_gradients_match_the_definition_in_fp64(op, backend, dtype):
    skip_where_refused(op, backend)
    spec = SPECS[op]
    by_case = [judge_case(spec, case, dtype, device="cuda", backend=backend, behaviour=False) for case in spec.cases]
    judged = [rows for rows in by_case if rows[0].status != SKIPPED]
    if not judged:
        pytest.skip(f"{op} on {backend}: {by_case[0][0].message}")
    wrong = [f"{row.case}, {row.check}: {row.message}" for rows in judged for row in rows if row.status == FAILED]
    assert not wrong, "\n".join(wrong)
    assert all(len(rows) >= 2 for rows in judged), "the judge must have looked at something"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.replace("_", "-"))
@pytest.mark.parametrize(("op", "backend"), PAIRS, ids=name)
def test_the_device_agrees(op, backend, check):
    skip_where_refused(op, backend)
    if check in EXEMPT.get(backend, ()):
        pytest.skip(f"{op} on {backend}: the definition may wait for the device: slow by design")
    with use_backend(backend):
        check(SPECS[op], SPECS[op].function, SPECS[op].dtypes[0])
