"""``python -m bench static``: arguments, exit codes, caching, two processes."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest
import torch

pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")

from bench.__main__ import main
from bench.static import COMPILED_TARGETS, Options, analyze_sources, judge_all, run
from lisa_kernels.core import registry
from lisa_kernels.testing.cuda.toolchain import why_no_nvcc
from lisa_kernels.testing.static import compile_jobs, nvidia
from lisa_kernels.testing.static.collect import collect, collect_from
from lisa_kernels.testing.static.replay import TRUST
from tests.architecture.sources import ROOT
from tests.specimens.swiglu.spec import SPECS
from tests.testing.static import launches
from tests.testing.static.test_collect import small

LAUNCHES = "tests.testing.static.launches"


def test_all_compiled_targets_are_the_default():
    assert COMPILED_TARGETS == ("sm_80", "sm_90", "sm_100", "sm_120", "gfx942")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "sm_99"], "--target is 'sm_99'; it takes sm_80, sm_90"),
        (["--target", "interp"], "--target is 'interp'"),
        (["nope"], "op is 'nope'"),
        (["--from", "no.such.module:f"], "--from is 'no.such.module:f'; it takes module:function"),
        (["--from", f"{LAUNCHES}:missing"], "it takes module:function"),
        (["--from", f"{LAUNCHES}:OPTIONS"], "it takes a function, this is dict"),
        (["ctc", "--from", f"{LAUNCHES}:specimens"], "OP is 'ctc' beside --from"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(["static", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_interpreting_process_refuses():
    """In a process of its own: the setting is read once."""
    command = ["env", "TRITON_INTERPRET=1", sys.executable, "-m", "bench", "static"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "TRITON_INTERPRET=1 makes this process an interpreter" in done.stderr


def test_every_op_has_a_line(capsys, tmp_path):
    code = main(["static", "--target", "sm_80", "--json", str(tmp_path / "rows" / "static.json")])
    told = capsys.readouterr().out
    for spec in registry.select():
        assert f"\n{spec.name}: " in told
    assert code == 0, told
    json.loads((tmp_path / "rows" / "static.json").read_text())


@pytest.mark.prove
def test_every_shipped_configuration_passes_its_gates_on_all_targets(capsys):
    assert main(["static"]) == 0, capsys.readouterr().out


def swiglu(bench):
    """Return the launches of the specimen op in bf16, forward alone, for the named benchmark case."""
    spec = small(SPECS[0])
    cases = tuple(case for case in spec.bench if case.name == bench)
    dtypes = (torch.bfloat16, torch.float64)
    return collect(dataclasses.replace(spec, bench=cases, cases=(), dtypes=dtypes, differentiable=()), ("sm_80",))


def test_an_op_s_section_shows_kernels_refusals_and_rows_that_nothing_reaches(tmp_path):
    lines = []
    options = Options(targets=("sm_80",), recorded=tmp_path, cache=None)
    code = judge_all([(swiglu("large"), [])], options, lines.append)
    told = "\n".join(lines)
    assert code == 0, told
    assert "specimen_swiglu: 1 compiled" in told
    assert "swiglu_fwd_kernel bf16/bf16/bf16 BLOCK=1024 warps=4" in told
    assert "note: float64: refused: fp64; it takes fp32, bf16 and fp16" in told
    assert "never reached by a case: TILES sm_80 up to 4096" in told


def test_the_model_s_limits_stand_below_figures_and_only_there(tmp_path):
    for function, is_told in (("aligned_copy", True), ("broken", False)):
        lines = []
        options = Options(targets=("sm_80",), source=f"{LAUNCHES}:{function}", recorded=tmp_path, cache=None)
        run(options, lines.append)
        assert (TRUST in "\n".join(lines)) == is_told


def test_a_tile_that_is_too_small_for_wide_accesses_fails(tmp_path):
    """256 elements over 128 threads are two bf16 each, 32 bits."""
    lines = []
    options = Options(targets=("sm_80",), recorded=tmp_path, cache=None)
    assert judge_all([(swiglu("small"), [])], options, lines.append) == 1
    assert "width: LDG.32 2, STG.32 1" in "\n".join(lines)


def test_rows_in_json_are_marked_static_and_carry_figures_and_gates(tmp_path):
    path = tmp_path / "static.json"
    run(Options(targets=("sm_80",), source=f"{LAUNCHES}:aligned_copy", json=path, recorded=tmp_path, cache=None), str)
    (row,) = json.loads(path.read_text())
    assert (row["kind"], row["target"], row["figures"]["toolchain"].split()[0]) == ("static", "sm_80", "triton")
    assert {gate["gate"] for gate in row["gates"]} == {"fits", "spills", "mma", "width", "ceiling", "sim"}


def test_recorded_figures_are_those_that_the_next_run_is_held_to(tmp_path):
    options = Options(targets=("sm_80",), source=f"{LAUNCHES}:aligned_copy", recorded=tmp_path, cache=None)
    lines = []
    run(Options(**{**vars(options), "record": True}), lines.append)
    assert "1 kernels recorded in" in "\n".join(lines)
    lines.clear()
    assert run(options, lines.append) == 0
    assert "no record" not in "\n".join(lines)
    (path,) = tmp_path.glob("*.json")
    cycles = json.loads(path.read_text())["figures"][options.source]["sm_80"]
    (figures,) = cycles.values()
    path.write_text(path.read_text().replace(str(figures["latency_1block"]), str(figures["latency_1block"] / 2)))
    lines.clear()
    assert run(options, lines.append) == 1
    assert "sim: " in "\n".join(lines).partition("Failed")[2]


def test_a_second_run_reads_what_the_first_one_found(tmp_path, monkeypatch):
    jobs = collect_from(launches.aligned_copy, ("sm_80", "gfx942"), name="mine").jobs
    first = compile_jobs.analyze_jobs(jobs, cache=tmp_path)
    monkeypatch.setattr(compile_jobs, "analyze_launch", lambda *_: pytest.fail("compiled again"))
    assert compile_jobs.analyze_jobs(jobs, cache=tmp_path) == first
    other = collect_from(launches.misaligned_copy, ("sm_80",), name="mine").jobs
    with pytest.raises(pytest.fail.Exception):
        compile_jobs.analyze_jobs(other, cache=tmp_path)


def test_a_missing_disassembler_is_a_row_with_the_reason_and_no_pass(tmp_path, monkeypatch):
    def missing(cubin):
        raise RuntimeError("find_tool: nvdisasm is neither in the triton wheel nor on PATH; ...")

    monkeypatch.setattr(nvidia, "disassemble", missing)
    lines = []
    options = Options(targets=("sm_80",), source=f"{LAUNCHES}:aligned_copy", recorded=tmp_path, cache=None)
    assert run(options, lines.append) == 1
    assert "no figures: RuntimeError: find_tool: nvdisasm is neither" in "\n".join(lines)


@pytest.mark.skipif(why_no_nvcc() is not None, reason=f"needs nvcc: {why_no_nvcc()}")
def test_kernels_of_cuda_sources_have_rows_for_nvidia_targets(tmp_path):
    good, bad = tmp_path / "good.cu", tmp_path / "bad.cu"
    good.write_text(
        'extern "C" __global__ void __launch_bounds__(64) fill_kernel(float4* x) { x[threadIdx.x].x = 1; }\n'
    )
    bad.write_text("this is no CUDA\n")
    rows = analyze_sources("op", [good, bad], ("sm_80", "gfx942"))
    assert [(row.target, row.name.split()[0], row.figures is None) for row in rows] == [
        ("sm_80", "good.cu", False), ("sm_80", "bad.cu", True),
    ]  # fmt: skip
    assert rows[1].reason


@pytest.mark.prove
def test_two_processes_find_what_one_finds():
    targets = ("sm_80", "sm_90", "gfx942")
    jobs = [
        job
        for function in (launches.aligned_copy, launches.misaligned_copy)
        for job in collect_from(function, targets, name="mine").jobs
    ]
    assert len(jobs) > 4, "else no second process is started"
    assert compile_jobs.analyze_jobs(jobs, workers=2) == compile_jobs.analyze_jobs(jobs, workers=1)


@pytest.mark.prove
def test_the_specimen_op_is_compiled_for_every_target_and_a_second_run_takes_no_time(tmp_path):

    jobs = collect(small(SPECS[0]), COMPILED_TARGETS).jobs
    outcomes = compile_jobs.analyze_jobs(jobs, cache=tmp_path)
    assert all(outcome.figures for outcome in outcomes)
    start = time.perf_counter()
    assert compile_jobs.analyze_jobs(jobs, cache=tmp_path) == outcomes
    assert time.perf_counter() - start < 2
