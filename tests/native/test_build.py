"""What the build promises: portable objects, a choice at run time, an import without it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch

import lisa_kernels
from lisa_kernels.core import native
from lisa_kernels.core.config import read_settings
from lisa_kernels.testing.cuda.toolchain import why_no_nvcc

ROOT = pathlib.Path(__file__).resolve().parents[2]
needs_native = pytest.mark.skipif(native.module() is None, reason=f"needs the native extension: {native.why_not()}")


@needs_native
def test_build_info_names_what_runs():
    info = native.build_info()
    assert info["openmp"] > 0
    assert torch.__version__.startswith(info["torch"].split("+")[0])
    assert info["cpu_capability"] in ("baseline", "avx2", "avx512", "avx512bf16")


@needs_native
def test_every_capability_gives_the_same_loss_and_gradient():
    """One machine runs all narrower builds: each must agree within rounding, which also shows that each was built."""
    widest = native.build_info()["widest_cpu_capability"]
    names = ["baseline", "avx2", "avx512", "avx512bf16"]
    names = names[: names.index(widest) + 1]
    logits = torch.randn(37, 3, 21, requires_grad=True)
    targets = torch.randint(1, 21, (3, 9))
    results = {}
    try:
        for name in names:
            native.module().set_cpu_capability(name)
            assert native.build_info()["cpu_capability"] == name
            with lisa_kernels.use_backend("cpu"):
                loss = lisa_kernels.ctc_loss(logits, targets, [37, 30, 25], [9, 5, 0])
            results[name] = torch.autograd.grad(loss, logits)[0]
    finally:
        native.module().set_cpu_capability(widest)
    for name in names:
        error = (results[name] - results["baseline"]).abs().max() / results["baseline"].abs().max()
        assert error < 2e-6, f"{name}: {error}"


@needs_native
def test_a_capability_the_machine_lacks_or_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="capability is 'sse9'; it takes baseline, avx2, avx512 or avx512bf16"):
        native.module().set_cpu_capability("sse9")


@needs_native
def test_the_capability_variable_is_obeyed():
    code = "from lisa_kernels.core import native; native.module(); print(native.build_info()['cpu_capability'])"
    env = {"LISA_CPU_CAPABILITY": "baseline", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, check=True)
    assert done.stdout.split() == ["baseline"]


def test_kernel_objects_share_no_inline_code():
    """The linker keeps one copy of a weak function for all objects: one compiled for AVX-512 would crash older CPUs."""
    objects = sorted((ROOT / "build").glob("native-*/*_cpu.*.o"))
    if not objects or shutil.which("nm") is None:
        pytest.skip("needs the objects of a build in this folder, and nm")
    for path in objects:
        capability = path.name.split(".")[1]
        symbols = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
        weak = [line.split(None, 2)[2] for line in symbols.splitlines() if line[17:18] in ("W", "V", "u")]
        shared = [name for name in weak if f"lisa::{capability}" not in name]
        assert not shared, f"{path.name}: {shared}"


def test_baseline_objects_hold_no_wide_instruction():
    """What every x86-64 machine loads must not use AVX."""
    objects = [*(ROOT / "build").glob("native-*/*.baseline.o"), *(ROOT / "build").glob("native-*/capability.o")]
    if not objects or shutil.which("objdump") is None:
        pytest.skip("needs the objects of a build in this folder, and objdump")
    for path in objects:
        text = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
        wide = [line for line in text.splitlines() if "%ymm" in line or "%zmm" in line]
        assert not wide, f"{path.name}: {wide[:3]}"


def test_no_torch_header_outside_the_bindings():
    """Kernels that include torch compile in minutes instead of seconds, and cannot be run without it."""
    for path in [*(ROOT / "csrc/core").iterdir(), *(ROOT / "csrc/ops").glob("*/*")]:
        # What bindings share.
        if path == ROOT / "csrc/core/tensor.h" or path.name.endswith(("_bind.h", "_bind.cpp", "_bind_cuda.cpp")):
            continue
        text = path.read_text()
        assert "<ATen" not in text, path
        assert "<torch" not in text, path
        assert "core/tensor.h" not in text, path


def test_sources_ask_for_no_native_architecture():
    for path in [ROOT / "setup.py", *(ROOT / "csrc").rglob("*.*")]:
        assert "march=native" not in path.read_text(), path


def test_a_build_that_was_asked_for_is_there():
    """With LISA_BUILD=cpu, as in CI, tests of the native kernels must not skip."""
    assert read_settings().build != "cpu" or native.module() is not None, native.why_not()


@pytest.mark.parametrize(
    ("value", "archs"), [(None, ("80", "90a", "100a")), ("90a", ("90a",)), ("80; 120", ("80", "120"))]
)
def test_the_architectures_of_the_cuda_build_are_a_setting(value, archs):
    code = "from lisa_kernels.core.config import read_settings; print(*read_settings().cuda_archs)"
    env = {"PATH": "/usr/bin:/bin"} | ({"LISA_CUDA_ARCHS": value} if value else {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, check=True)
    assert tuple(done.stdout.split()) == archs


def test_an_architecture_that_is_none_is_refused():
    code = "from lisa_kernels.core.config import read_settings; read_settings()"
    env = {"PATH": "/usr/bin:/bin", "LISA_CUDA_ARCHS": "sm_90"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT)
    assert "LISA_CUDA_ARCHS is 'sm_90'; it takes numbers as in sm_<number>" in done.stderr


@pytest.mark.prove
@pytest.mark.skipif(why_no_nvcc() is not None, reason=f"needs nvcc: {why_no_nvcc()}")
def test_the_cuda_build_links_and_imports_beside_a_cpu_build_of_torch(tmp_path):
    """No file of it includes anything of torch's CUDA side."""
    environment = {**os.environ, "LISA_BUILD": "cuda", "LISA_CUDA_ARCHS": "80"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "-b", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    code = (
        "import importlib.util, pathlib, sys, torch\n"
        f"path = next(pathlib.Path({str(tmp_path)!r}).glob('lisa_kernels/_C*.so'))\n"
        "spec = importlib.util.spec_from_file_location('lisa_kernels._C', path)\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.build_info()['cuda'], *(name for name in sys.argv[1:] if hasattr(torch.ops.lisa_C, name)))\n"
    )
    sources = "".join(path.read_text() for path in (ROOT / "csrc/ops").rglob("*.cpp"))
    defined = sorted(set(re.findall(r"\"(\w+_cuda_\w+)\(", sources)))
    done = subprocess.run([sys.executable, "-c", code, *defined], capture_output=True, text=True, check=True)
    assert len(defined) >= len(list((ROOT / "csrc/ops").rglob("*.cu")))
    assert done.stdout.split() == ["80", *defined]
