"""``python -m bench.gpu.probe``: what torch sees of the GPU, and which backends of which op run on it, as JSON.

A process of its own: a broken driver may hang or crash it, and a GPU in exclusive mode serves one process at a time.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import platform
import re
from typing import Any

import torch

from bench.machine import find_commit
from lisa_kernels.core import native
from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.registry import select
from lisa_kernels.testing.plan import unavailable

_DRIVER = pathlib.Path("/proc/driver/nvidia/version")


def probe() -> dict[str, Any]:
    """Return the facts; ``gpu`` says whether there is one, and then ``ops`` and the device's properties follow."""
    facts: dict[str, Any] = {
        "gpu": torch.cuda.is_available(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "triton": _version("triton"),
        "python": platform.python_version(),
        "commit": find_commit(),
        "native": native.build_info(),
        "native_why_not": native.why_not(),
    }
    return facts | _device() if facts["gpu"] else facts


def _device() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    arch = f"sm_{properties.major}{properties.minor}"
    return {
        "name": properties.name,
        "arch": properties.gcnArchName.split(":")[0] if torch.version.hip else arch,
        "memory_mib": properties.total_memory // 2**20,
        "multiprocessors": properties.multi_processor_count,
        "uuid": str(getattr(properties, "uuid", "")),
        "count": torch.cuda.device_count(),
        "driver": _driver(),
        "specimens": _specimens()[0],
        "specimens_why_not": _specimens()[1],
        "ops": {spec.name: {name: _refusal(spec, name) for name in BACKENDS if name != "cpu"} for spec in select()},
    }


def _refusal(spec: Any, backend: str) -> str | None:
    try:
        return unavailable(spec, backend, torch.device("cuda"))
    except Exception as error:
        return f"asking it failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _specimens() -> tuple[list[str], str | None]:
    """Return the names of the known kernels in ``tests/specimens``, or why there are none."""
    try:
        from tests.specimens.specimens import SPECIMENS
    except ImportError as error:
        return [], f"the specimens need triton and a checkout with tests/ ({error})"
    return list(SPECIMENS), None


def _driver() -> str | None:
    """Return the version of NVIDIA's kernel driver: also in containers without nvidia-smi."""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", _DRIVER.read_text()) if _DRIVER.exists() else None
    return found[1] if found else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(json.dumps(probe()))
