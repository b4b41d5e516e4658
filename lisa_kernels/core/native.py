"""The native extension ``lisa_kernels._C``: loaded at first use, never required.

``run_on`` puts another library of the same ops in its place, such as the CUDA kernels built to run without a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.config import CAPABILITIES, read_settings

_LIBRARY = "lisa_C"
# Process-wide, as the forced backend is.
_library = _LIBRARY


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


def ops() -> Any:
    """Return the namespace of native ops that calls go to: ``torch.ops.lisa_C``, or that of ``run_on``."""
    return getattr(torch.ops, _library)


def stream(tensor: Tensor) -> int:
    """Return the CUDA stream for work on a tensor as the integer that native ops take; 0 for a CPU tensor."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else 0


def call(op: str, direction: str, *args: Any, on: Tensor, cuda_args: tuple[Any, ...] = ()) -> Any:
    """Return what a native op gives: ``<op>_<direction>`` on CPU tensors, ``<op>_cuda_<direction>`` on a GPU's.

    Args:
        op: Name of the op.
        direction: ``"fwd"`` or ``"bwd"``.
        args: Arguments of both.
        on: One of the tensors.
        cuda_args: What the CUDA op takes besides, before the stream.
    """
    if not (on.is_cuda or is_redirected()):
        return getattr(torch.ops.lisa_C, f"{op}_{direction}")(*args)
    # Kernels are launched on the current device, which must be that of the tensors.
    with torch.cuda.device(on.device) if on.is_cuda else contextlib.nullcontext():
        return getattr(ops(), f"{op}_cuda_{direction}")(*args, *cuda_args, stream(on))


@contextlib.contextmanager
def run_on(library: str) -> Iterator[None]:
    """Send calls of the CUDA backend to ``torch.ops.<library>`` while the block runs, CPU tensors included."""
    global _library
    previous, _library = _library, library
    try:
        yield
    finally:
        _library = previous


def is_redirected() -> bool:
    """Whether ``run_on`` is in force."""
    return _library != _LIBRARY
