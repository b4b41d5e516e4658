"""CUDA C++ to figures: each kernel that nvcc makes of a ``.cu`` file."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence

from lisa_kernels.testing.static.disassemble import disassemble, launch_bounds
from lisa_kernels.testing.static.figures import KernelFigures
from lisa_kernels.testing.static.nvidia import Known, read_cubin
from lisa_kernels.testing.static.sass import parse_sass


def analyze_cuda(
    source: str | pathlib.Path,
    target: str = "sm_90",
    *,
    threads: Mapping[str, int] | None = None,
    dynamic_shared_bytes: int = 0,
    include_dirs: Sequence[str | pathlib.Path] = (),
) -> list[KernelFigures]:
    """Return the static figures of every kernel of a ``.cu`` file.

    Args:
        source: Its path, or its text.
        target: ``"sm_80"``, ``"sm_90a"`` and so on.
        threads: Threads of one block by kernel name (mangled, unless ``extern "C"``); kernels not named here need
            ``__launch_bounds__``.
        dynamic_shared_bytes: Shared memory given at launch, the same for all kernels.
        include_dirs: Folders of its includes.

    Raises:
        ValueError: A kernel of which nobody says how many threads a block has, or a target without rates in the model.
        RuntimeError: nvcc or a disassembler is missing, or nvcc refuses the file.
    """
    from lisa_kernels.testing.cuda.compiler import compile_cubin

    cubin = compile_cubin(source, target, include_dirs=include_dirs).code
    return analyze_cubin(cubin, toolchain=nvcc_name(), threads=threads, dynamic_shared_bytes=dynamic_shared_bytes)


def analyze_cubin(
    cubin: bytes,
    *,
    toolchain: str = "unknown toolchain",
    threads: Mapping[str, int] | None = None,
    dynamic_shared_bytes: int = 0,
) -> list[KernelFigures]:
    """Return the static figures of every kernel of a cubin; arguments and errors as those of ``analyze_cuda``.

    Args:
        toolchain: What compiled it.
    """
    bounds = launch_bounds(cubin) | dict(threads or {})
    known = {}
    for name in sorted(parse_sass(disassemble(cubin)).functions):
        if name not in bounds:
            raise ValueError(
                f"analyze_cubin: kernel {readable_name(name)} has no __launch_bounds__; it takes them, or threads with "
                f"the entry {name!r}."
            )
        known[name] = Known(bounds[name], dynamic_shared_bytes, toolchain)
    return read_cubin(cubin, known)


def nvcc_name() -> str:
    """Return ``"nvcc 13.0"``.

    Raises:
        RuntimeError: nvcc is missing.
    """
    from lisa_kernels.testing.cuda.toolchain import find_nvcc, version_of, why_no_nvcc

    if reason := why_no_nvcc():
        raise RuntimeError(f"nvcc_name: {reason}.")
    release = re.search(r"release (\d+\.\d+)", version_of(str(find_nvcc())))
    return f"nvcc {release[1] if release else 'of unknown version'}"


def readable_name(mangled: str) -> str:
    """Return the last identifier of a mangled C++ name: ``_ZN4lisa10sum_kernelIfEvPf`` is ``sum_kernel``."""
    start = re.match(r"_ZN?K?", mangled)
    if not start:
        return mangled
    position, name = start.end(), mangled
    while match := re.compile(r"(\d+)").match(mangled, position):
        length = int(match[1])
        name = mangled[match.end() : match.end() + length]
        position = match.end() + length
    return name
