"""The means without a GPU, on an op that has kernels of every kind: right kernels pass, wrong ones are caught."""

import dataclasses
import importlib.util
import pathlib

import pytest
import torch

from lisa_kernels.core.dispatch import Explanation
from lisa_kernels.testing.cuda import ops, why_no_host, why_no_nvcc
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


@pytest.fixture(autouse=True)
def specimen_is_an_op(monkeypatch):
    """The op's CUDA sources are found where the package's own are looked for, beside those."""
    source, packages = pathlib.Path(triton_impl.__file__).with_name("swiglu.cu"), ops.op_sources
    monkeypatch.setattr(ops, "op_sources", lambda: (*packages(), source))


@needs_triton
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_emulator_judges_values_and_gradients_of_compiled_kernels(target):
    """Triton's code and, where nvcc is installed, nvcc's."""
    rows = rows_of("emulated", targets=(target,))
    assert {row.status for row in rows if row.status != SKIPPED} == {PASSED}, [row.message for row in rows]
    for name in [f"emulated {target}", *([] if why_no_nvcc() else [f"emulated {target}, nvcc"])]:
        checks = {row.check for row in rows if row.backend == name}
        assert {"output", "grad_gate", "grad_up", "same bits in any order"} <= checks


@pytest.mark.skipif(why_no_host() is not None, reason=f"needs g++ and CUDA headers: {why_no_host()}")
def test_the_host_judges_values_gradients_and_memory_of_cuda_kernels():
    rows = rows_of("host")
    assert {row.status for row in rows if row.status != SKIPPED} == {PASSED}, [row.message for row in rows]
    assert {"output", "grad_up", "same bits in any order", "memory around inputs"} <= {row.check for row in rows}


@pytest.fixture(scope="module")
def wrong_source(tmp_path_factory):
    """The op's CUDA kernels, which leave the last element out."""
    source, folder = pathlib.Path(triton_impl.__file__).parent, tmp_path_factory.mktemp("wrong")
    for file in ("swiglu.h", "swiglu_bind_cuda.cpp", "swiglu.cu"):
        text = (source / file).read_text().replace('"../../../csrc/', f'"{source.parents[2]}/csrc/')
        (folder / file).write_text(text.replace("if (i >= call.count)", "if (i >= call.count - 1)"))
    return folder / "swiglu.cu"


@pytest.mark.skipif(why_no_host() is not None, reason=f"needs g++ and CUDA headers: {why_no_host()}")
@pytest.mark.parametrize("name", ["host", "emulated"])
def test_a_wrong_cuda_kernel_is_caught(name, monkeypatch, wrong_source):
    monkeypatch.setattr(ops, "op_sources", lambda: (wrong_source,))
    monkeypatch.setattr(ops, "LIBRARY", "lisa_host_wrong")
    rows = [row for row in rows_of(name, targets=("sm_80",)) if row.backend != "emulated sm_80"]
    if all(row.status == SKIPPED for row in rows):
        pytest.skip(rows[0].message)
    assert "output" in {row.check for row in rows if row.status == FAILED}


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
    with pytest.raises(ValueError, match="target is 'sm_100'; it takes sm_80, sm_89, sm_90, sm_120"):
        find_engines("emulated", ("sm_100",))
