"""Launches come from the op's own host code: one specimen op stands for all that will be written."""

import dataclasses
import importlib.util

import pytest
import torch

from lisa_kernels.core.launch import launch, specialise
from lisa_kernels.core.tiling import Tile, force_tile
from lisa_kernels.testing.static.jobs import Job, merge

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)


def small(spec):
    """Return the spec with cases of a few elements: 60 million random numbers take seconds."""
    large = dataclasses.replace(spec.bench[1], name="large", sizes={"T": 4096, "D": 16})
    return dataclasses.replace(spec, bench=(spec.bench[1], large))


@pytest.fixture(scope="module")
def swiglu():
    from tests.specimens.swiglu.spec import SPECS

    return small(SPECS[0])


@pytest.fixture(scope="module")
def collected(swiglu):
    from lisa_kernels.testing.static.collect import collect

    return collect(swiglu, ("sm_80", "sm_90", "gfx942"))


def test_forward_and_backward_of_every_dtype_and_target_are_collected(collected):
    found = {
        (job.target, job.record.kernel.__name__, job.record.signature["gate_ptr"])
        for job in collected.jobs
        if job.real_size
    }
    assert found == {
        (target, f"swiglu_{direction}_kernel", dtype)
        for target in ("sm_80", "sm_90", "gfx942")
        for direction in ("fwd", "bwd")
        for dtype in ("*fp32", "*bf16", "*fp16")
    }


def test_each_target_gets_its_own_tile(collected):
    blocks = {job.target: job.record.constexprs["BLOCK"] for job in collected.jobs if "small" in job.cases}
    assert blocks == {"sm_80": 256, "sm_90": 2048, "gfx942": 2048}


def test_jobs_are_not_repeated_and_remember_their_cases(collected):
    assert len({(job.target, job.record.kernel.__name__, job.digest) for job in collected.jobs}) == len(collected.jobs)
    assert any(len(job.cases) > 1 for job in collected.jobs)


def test_only_jobs_of_benchmark_cases_have_real_sizes(collected):
    for job in collected.jobs:
        assert job.real_size == bool({"small", "large"} & set(job.cases))


def test_alignment_is_that_of_the_tensors(collected):
    """``n`` of 7 x 11 is no multiple of 16, that of 2 x 1024 is."""
    odd, even = (next(j for j in collected.jobs if case in j.cases) for case in ("odd", "small"))
    n = odd.record.kernel.arg_names.index("n")
    assert (n,) not in odd.record.attrs
    assert (n,) in even.record.attrs


def test_a_row_of_the_table_that_no_case_reaches_is_reported(swiglu):
    from lisa_kernels.testing.static.collect import collect

    assert not collect(swiglu, ("sm_80",)).unreached
    tiny = dataclasses.replace(swiglu, bench=(), cases=swiglu.cases[:1])
    (row,) = collect(tiny, ("sm_80",)).unreached
    assert row.startswith("TILES sm_80 any size: ElementwiseTile(")


def test_a_refused_dtype_is_a_note_and_no_job(swiglu):
    from lisa_kernels.testing.static.collect import collect

    found = collect(dataclasses.replace(swiglu, dtypes=(torch.float64,)), ("sm_80",))
    assert not found.jobs
    assert "float64: refused: fp64; it takes fp32, bf16 and fp16" in found.notes


def test_a_target_without_a_tile_is_a_note(swiglu, monkeypatch):
    from lisa_kernels.testing.static.collect import collect
    from tests.specimens.swiglu import tiles

    monkeypatch.delitem(tiles.TILES, "sm_120")
    found = collect(swiglu, ("sm_80", "sm_120"))
    assert {job.target for job in found.jobs} == {"sm_80"}
    assert any(note.startswith("sm_120: pick: no tile for target sm_120") for note in found.notes)


def test_host_code_that_fails_on_meta_tensors_is_named(swiglu):
    from lisa_kernels.testing.static.collect import collect

    planted = dataclasses.replace(swiglu, function=lambda gate, up: gate.sum().item())
    planted.function.__module__ = swiglu.function.__module__
    with pytest.raises(RuntimeError, match=r"specimen_swiglu, case 'small', torch\.float32, sm_80: host code fails"):
        collect(planted, ("sm_80",))


def test_an_op_without_gpu_kernels_has_no_jobs(swiglu):
    """The module of this function registers no operator."""
    from lisa_kernels.testing.static.collect import Collection, collect

    plain = dataclasses.replace(swiglu, function=lambda gate, up: gate * up)
    assert collect(plain, ("sm_80",)) == Collection("specimen_swiglu", ())


def test_an_unknown_target_is_named():
    from lisa_kernels.testing.static.collect import collect_from

    with pytest.raises(ValueError, match="force_target: name is 'sm_99'"):
        collect_from(lambda: None, ("sm_99",), name="mine")


class Kernel:
    """As much of a compiled kernel as ``specialise`` looks at."""

    arg_names = ("x_ptr",)
    __name__ = "kernel"


def test_launches_and_returned_records_of_a_function_are_collected():
    from lisa_kernels.testing.static.collect import collect_from

    def mine():
        launch(Kernel(), (1,), torch.zeros(4), tile=Tile())
        return [specialise(Kernel(), (1,), (torch.zeros(4, dtype=torch.int8),), constexprs={}, options={})]

    with force_tile(Tile()):
        found = collect_from(mine, ("sm_80", "sm_90"), name="mine")
    assert [(job.target, job.record.signature["x_ptr"]) for job in found.jobs] == [
        ("sm_80", "*fp32"), ("sm_80", "*i8"), ("sm_90", "*fp32"), ("sm_90", "*i8"),
    ]  # fmt: skip


def test_a_function_that_launches_nothing_is_an_error():
    from lisa_kernels.testing.static.collect import collect_from

    with pytest.raises(ValueError, match="mine launched nothing"):
        collect_from(lambda: None, ("sm_80",), name="mine")


def test_the_name_of_a_job_changes_with_what_specialises_it():
    def job(x, **options):
        return Job("op", "sm_80", specialise(Kernel(), (1,), (x,), constexprs={}, options=options))

    x = torch.zeros(8)
    assert job(x).name == job(x).name
    assert len({job(y, num_warps=w).name for y in (x, x[1:], x.int()) for w in (4, 8)}) == 6
    assert len(merge([job(x), job(x), job(x[1:])])) == 2


def test_a_job_that_any_case_of_real_size_reaches_has_a_real_size():
    entry = specialise(Kernel(), (1,), (torch.zeros(8),), constexprs={}, options={})
    for order in ((True, False), (False, True)):
        (job,) = merge([Job("op", "sm_80", entry, (str(real),), real) for real in order])
        assert job.real_size
        assert set(job.cases) == {"True", "False"}


def test_kept_figures_belong_to_the_source_of_a_kernel():
    """Same name and specialisation, another body."""
    from lisa_kernels.testing.static.compile_jobs import _content_key

    keys = set()
    for body in ("one", "other"):
        kernel = Kernel()
        kernel.cache_key = body
        entry = specialise(kernel, (1,), (torch.zeros(8),), constexprs={}, options={})
        keys.add(_content_key(Job("op", "sm_80", entry)))
    assert len(keys) == 2
