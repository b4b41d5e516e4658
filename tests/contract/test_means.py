"""The means without a GPU, on an op that has kernels of every kind: right kernels pass, wrong ones are caught."""

import dataclasses
import importlib.util

import pytest
import torch

from lisa_kernels.core.dispatch import Explanation
from lisa_kernels.testing.engines import MEANS, find_engines
from lisa_kernels.testing.plan import verify_op
from lisa_kernels.testing.rows import FAILED, PASSED, SKIPPED
from tests.specimens.swiglu import triton_impl
from tests.specimens.swiglu.spec import SPECS

CPU = torch.device("cpu")
SPEC = SPECS[0]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)


def rows_of(backend, level="quick", **options):
    return list(verify_op(SPEC, device=CPU, backend=backend, level=level, **options))


@needs_triton
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_emulator_judges_values_and_gradients_of_compiled_kernels(target):
    rows = rows_of("emulated", targets=(target,))
    assert {row.status for row in rows} == {PASSED}, [row.message for row in rows if row.status != PASSED]
    assert {"output", "grad_gate", "grad_up", "same bits in any order"} <= {row.check for row in rows}
    assert {row.backend for row in rows} == {f"emulated {target}"}


@pytest.mark.parametrize("name", ["emulated", "host"])
def test_every_op_passes(name, spec):
    """An op without kernels of the kind is a skipped row; ``tests/interpreted`` asks the interpreter."""
    failed = [row for row in verify_op(spec, device=CPU, backend=name, level="quick") if row.status == FAILED]
    assert not failed


@needs_triton
def test_the_emulator_catches_a_launch_that_leaves_a_block_out(monkeypatch):
    monkeypatch.setattr(triton_impl, "_grid", lambda gate, tile: (max(1, -(-gate.numel() // tile.BLOCK) - 1),))
    failed = [row for row in rows_of("emulated", targets=("sm_80",)) if row.status == FAILED]
    assert "output" in {row.check for row in failed}


@needs_triton
def test_a_case_with_too_many_programs_is_skipped_with_its_size(monkeypatch):
    monkeypatch.setattr(triton_impl, "_grid", lambda gate, tile: (1000,))
    rows = rows_of("emulated", targets=("sm_80",))
    reasons = {row.message for row in rows if row.status == SKIPPED}
    assert reasons == {"a launch of 1000 programs; at most 256 are emulated"}


@pytest.mark.parametrize("name", MEANS)
def test_an_op_without_such_kernels_is_skipped_with_that_reason(name):
    """Before anything is built or imported for them."""
    spec = dataclasses.replace(SPEC, explain=lambda **kwargs: Explanation("op", (), ("cuda", "triton")))
    rows = list(verify_op(spec, device=CPU, backend=name, level="quick"))
    assert {row.status for row in rows} == {SKIPPED}
    assert all("specimen_swiglu has no " in row.message for row in rows)


def test_unknown_engines_and_targets_are_named():
    with pytest.raises(ValueError, match=r"backend is 'gpu'; it takes cuda, .*interpreted, emulated, host"):
        find_engines("gpu")
    with pytest.raises(ValueError, match="target is 'sm_100'; it takes sm_80, sm_90, sm_120"):
        find_engines("emulated", ("sm_100",))
