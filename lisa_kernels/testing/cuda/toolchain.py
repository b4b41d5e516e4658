"""The compilers and headers that CUDA C++ is compiled with on a machine without a GPU."""

from __future__ import annotations

import functools
import pathlib
import platform
import re
import shutil
import site
import subprocess

from lisa_kernels.core.config import read_settings

_USUAL = pathlib.Path("/usr/local/cuda")


@functools.cache
def find_nvcc() -> pathlib.Path | None:
    """Return the CUDA compiler: the one in PATH, else that of ``/usr/local/cuda``; None if there is none."""
    if found := shutil.which("nvcc"):
        return pathlib.Path(found)
    usual = _USUAL / "bin" / "nvcc"
    return usual if usual.is_file() else None


def why_no_nvcc() -> str | None:
    """Return why CUDA C++ cannot be compiled for a GPU here and how to mend it, or None when it can."""
    if find_nvcc():
        return None
    return "nvcc is not in PATH nor in /usr/local/cuda/bin: install the CUDA toolkit (12.8 or newer); no GPU is needed"


@functools.cache
def find_cuda_headers() -> pathlib.Path | None:
    """Return the folder that holds ``cuda_fp16.h``: the toolkit's, or that of the ``nvidia-cuda-runtime`` wheel."""
    candidates = [_USUAL / "include"]
    if nvcc := find_nvcc():
        # nvcc may be a script or a link far from its headers; it says where it belongs.
        command = [nvcc, "--dryrun", "-x", "cu", "-E", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True).stderr
        if top := re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE):
            candidates.insert(0, pathlib.Path(top[1].strip()) / "include")
    for packages in site.getsitepackages():
        candidates += sorted(pathlib.Path(packages, "nvidia").glob("*/include"))
    return next((folder.resolve() for folder in candidates if (folder / "cuda_fp16.h").is_file()), None)


@functools.cache
def find_compiler() -> str | None:
    """Return the C++ compiler for the host: ``CXX`` if it is GCC, else ``g++``; None if there is none."""
    for candidate in (read_settings().compiler or "", "g++"):
        if candidate and shutil.which(candidate) and "g++" in pathlib.Path(candidate).name:
            return candidate
    return None


def why_no_host() -> str | None:
    """Return why CUDA kernels cannot run on this machine's CPU and how to mend it, or None when they can."""
    if platform.machine() not in ("x86_64", "AMD64") or platform.system() != "Linux":
        return f"CUDA kernels run on the CPU of x86-64 Linux only; this is {platform.system()} on {platform.machine()}"
    if find_compiler() is None:
        return "g++ is not in PATH: install g++ 12 or newer"
    if find_cuda_headers() is None:
        return "cuda_fp16.h is not found: install the CUDA toolkit, or `pip install nvidia-cuda-runtime`"
    if not (shim_folder() / "cuda_on_host.h").is_file():
        return f"{shim_folder()} holds no cuda_on_host.h: reinstall lisa-kernels"
    return None


def shim_folder() -> pathlib.Path:
    """Return the folder of ``cuda_on_host.h``: ``csrc/testing`` of a checkout, else ``headers`` beside this file."""
    here = pathlib.Path(__file__).resolve().parent
    checkout = here.parents[2] / "csrc" / "testing"
    return checkout if checkout.is_dir() else here / "headers"


@functools.cache
def version_of(compiler: str) -> str:
    """Return what a compiler says about itself."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
