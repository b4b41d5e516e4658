"""Print what this machine can run: ``python -m lisa_kernels.env``.

Every line is found on its own; what is missing or broken is a line that says so, never a traceback.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import torch

from lisa_kernels import __version__
from lisa_kernels.core import native
from lisa_kernels.core.config import BACKENDS, read_settings
from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import OpSpec
from lisa_kernels.core.targets import TARGETS, current_target
from lisa_kernels.testing.plan import unavailable

_PACKAGES = ("triton", "numpy", "transformers", "diffusers")
_COMPILERS = ("c++", "g++", "clang++", "nvcc", "hipcc", "ninja")
_WIDTH = 22


def main() -> int:
    """Print the report; return 0."""
    for title, section in SECTIONS.items():
        print(title)
        for line in section():
            print(f"  {line}")
    return 0


def _versions() -> Iterator[str]:
    yield _line("lisa_kernels", lambda: __version__)
    yield _line("python", lambda: f"{platform.python_version()} on {platform.platform()}")
    yield _line("torch", _torch)
    for package in _PACKAGES:
        yield _line(package, lambda package=package: _package(package))


def _torch() -> str:
    build = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"HIP {torch.version.hip}"
        if torch.version.hip
        else "CPU"
    )
    return f"{torch.__version__} ({build} build)"


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _compilers() -> Iterator[str]:
    for name in _COMPILERS:
        yield _line(name, lambda name=name: _compiler(name))


def _compiler(name: str) -> str:
    if (path := shutil.which(name)) is None:
        return "not in PATH"
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    lines = [line.strip() for line in (output.stdout or output.stderr).splitlines() if line.strip()]
    # nvcc opens with its name and copyright; the release stands further down.
    told = next(
        (line for line in lines if "release" in line), lines[0] if lines else f"exit status {output.returncode}"
    )
    return f"{told} ({path})"


def _devices() -> Iterator[str]:
    yield _line(
        "cpu",
        lambda: f"{torch.get_num_threads()} threads of {os.cpu_count()}, {torch.backends.cpu.get_cpu_capability()}",
    )
    yield _line("targets known", lambda: ", ".join(TARGETS))
    count = _count_gpus()
    if not count:
        yield _line("gpu", lambda: "none that this torch sees")
    for index in range(count):
        yield _line(f"cuda:{index}", lambda index=index: _gpu(torch.device("cuda", index)))


def _count_gpus() -> int:
    try:
        return torch.cuda.device_count()
    except Exception:
        # A broken driver; the gpu line then says that there is none.
        return 0


def _gpu(device: torch.device) -> str:
    return f"{torch.cuda.get_device_name(device)}, kernels for {current_target(device).name}"


def _extension() -> Iterator[str]:
    yield _line("lisa_kernels._C", lambda: native.why_not() or "loaded")
    try:
        info = native.build_info()
    except Exception as error:
        info = {"build_info": f"fails: {error}"}
    for name, value in info.items():
        yield _line(name, lambda value=value: str(value))


def _settings() -> Iterator[str]:
    for name, value in vars(read_settings()).items():
        yield _line(name, lambda value=value: str(value))


def _ops() -> Iterator[str]:
    devices = ["cpu"] + [f"cuda:{index}" for index in range(_count_gpus())]
    for spec in select():
        for device in devices:
            yield f"{spec.name} on {device}"
            for backend in BACKENDS:
                yield f"  {_line(backend, lambda s=spec, b=backend, d=device: _availability(s, b, d))}"


def _availability(spec: OpSpec, backend: str, device: str) -> str:
    return unavailable(spec, backend, torch.device(device)) or "available"


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "Versions": _versions,
    "Compilers": _compilers,
    "Devices": _devices,
    "Native extension": _extension,
    "Settings (LISA_* variables)": _settings,
    "Ops": _ops,
}


def _line(label: str, find: Callable[[], str]) -> str:
    try:
        found = find()
    except Exception as error:
        found = f"could not be found out ({type(error).__name__}: {error})"
    return f"{label:{_WIDTH}} {found}"


if __name__ == "__main__":
    sys.exit(main())
