"""nvcc's output, its cache, and what is said where nvcc is missing or refuses."""

import pytest

from lisa_kernels.testing.cuda import compile_cubin, compile_ptx, compiler

SOURCE = """
extern "C" __global__ void double_kernel(float* x) { x[threadIdx.x] *= FACTOR; }
"""


def test_ptx_and_machine_code_of_a_text(nvcc, tmp_path):
    options = ("-DFACTOR=2.0f",)
    ptx = compile_ptx(SOURCE, "sm_90", options=options, cache=tmp_path)
    assert ".target sm_90" in ptx
    assert ".visible .entry double_kernel(" in ptx
    cubin = compile_cubin(SOURCE, "sm_80", options=options, cache=tmp_path)
    assert cubin.code.startswith(b"\x7fELF")
    assert "registers" in cubin.usage


def test_the_cache_knows_every_included_file(nvcc, tmp_path):
    header, source = tmp_path / "factor.h", tmp_path / "double.cu"
    source.write_text('#include "factor.h"' + SOURCE)
    seen = []
    for factor in ("2.0f", "3.0f", "2.0f"):
        header.write_text(f"#define FACTOR {factor}\n")
        seen.append(compile_ptx(source, cache=tmp_path / "cache"))
    assert seen[0] != seen[1]
    assert seen[0] == seen[2]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_an_error_of_nvcc_is_shown(nvcc, tmp_path):
    with pytest.raises(RuntimeError, match=r"compile_ptx: nvcc does not take source\.cu(?s:.*)FACTOR"):
        compile_ptx(SOURCE, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_nvcc_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "find_nvcc", lambda: None)
    monkeypatch.setattr(compiler, "why_no_nvcc", lambda: "nvcc is not in PATH: install it")
    with pytest.raises(RuntimeError, match="compile_cubin: nvcc is not in PATH: install it"):
        compile_cubin(SOURCE, cache=tmp_path)


def test_a_source_that_is_no_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.cu is no file"):
        compile_ptx("missing.cu", cache=tmp_path)
