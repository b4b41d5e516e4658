"""The native extension ``lisa_kernels._C``: loaded at first use, never required."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

import torch

from lisa_kernels.core.config import CAPABILITIES, read_settings


@functools.cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        # Loading the library registers torch.ops.lisa_C.*
        module = importlib.import_module("lisa_kernels._C")
    except ModuleNotFoundError:
        return None, (
            "the native extension is not built: reinstall where a C++ compiler is in PATH and LISA_BUILD is not none"
        )
    except ImportError as error:
        return None, f"the native extension does not load ({error}): rebuild it against the installed torch"
    built_for = module.build_info()["torch"]
    if built_for.split(".")[:2] != torch.__version__.split(".")[:2]:
        return (
            None,
            f"the native extension was built for torch {built_for}, and {torch.__version__} is installed: rebuild it",
        )
    if (capability := read_settings().cpu_capability) is not None:
        # A limit, not a demand: wider than the machine means the machine's widest.
        widest = module.build_info()["widest_cpu_capability"]
        module.set_cpu_capability(min(capability, widest, key=CAPABILITIES.index))
    return module, None


def module() -> ModuleType | None:
    """Return the extension module, or None where it is not built."""
    return _load()[0]


def why_not() -> str | None:
    """Return why the native extension is unavailable, or None when it is loaded."""
    return _load()[1]


def build_info() -> dict[str, Any]:
    """Return how the extension was built and which CPU capability runs; empty where it is not built."""
    loaded = module()
    return dict(loaded.build_info()) if loaded else {}
