"""The ops' CUDA kernels as torch ops for CPU tensors: what ``verify --backend host`` and ``emulated`` run.

An op's kernels and launcher (``<op>.cu``) go through g++ and the headers of ``csrc/testing``, its binding
(``<op>_bind_cuda.cpp``) is compiled as it is, with another library and dispatch key (``csrc/core/library.h``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lisa_kernels.core import native
from lisa_kernels.testing.cuda.compiler import compile_ptx
from lisa_kernels.testing.cuda.host import HostLaunch, HostModule
from lisa_kernels.testing.cuda.toolchain import shim_folder, why_no_host, why_no_nvcc

if TYPE_CHECKING:
    from lisa_kernels.testing.ptx import Report

LIBRARY = "lisa_host"
_OPS = pathlib.Path(__file__).resolve().parents[3] / "csrc" / "ops"


def op_sources() -> tuple[pathlib.Path, ...]:
    """Return the ``.cu`` files of all ops that have a binding beside them; none outside a checkout."""
    return tuple(sorted(path for path in _OPS.glob("*/*.cu") if _binding(path).is_file()))


def why_no_host_ops() -> str | None:
    """Return why the ops' CUDA kernels cannot run on this machine's CPU, or None when they can."""
    if not _OPS.is_dir():
        return f"{_OPS} is not there: the ops' CUDA sources are in a checkout of the repository, not in a wheel"
    return why_no_host()


@contextlib.contextmanager
def host_kernels(sources: Sequence[pathlib.Path] | None = None, *, thread_order: int | None = None) -> Iterator[None]:
    """Run the CUDA backend on CPU tensors while the block runs.

    Args:
        sources: ``.cu`` files of ops; None for ``op_sources()``.
        thread_order: Threads and blocks run in an order drawn from this seed; None: in order of their indices.

    Raises:
        HostFault: A kernel did something wrong; raised at the end of the block.
        RuntimeError: A tool is missing, or a file uses what is not modelled.
    """
    modules = [_build(path) for path in (op_sources() if sources is None else sources)]
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(module.ordered(seed=thread_order))
        stack.enter_context(native.run_on(LIBRARY))
        yield


@contextlib.contextmanager
def emulated_kernels(
    arch: str, sources: Sequence[pathlib.Path] | None = None, *, block_order: int | None = None
) -> Iterator[list[Report]]:
    """Run the CUDA backend on CPU tensors while the block runs: launchers as they are, kernels as nvcc's PTX, emulated.

    Args:
        arch: What nvcc compiles for, ``"sm_80"``.
        sources: As in ``host_kernels``.
        block_order: Blocks run in an order drawn from this seed; None: in order of their indices.

    Yields:
        A list that gets the report of each launch.

    Raises:
        PtxError: A kernel did something wrong; raised at the end of the block.
        RuntimeError: A tool is missing, or nvcc does not take a file.
    """
    paths = op_sources() if sources is None else sources
    reports: list[Report] = []
    with contextlib.ExitStack() as stack:
        for path in paths:
            module = _build(path)
            module.call("lisa_host_record_allocations", returns=None)
            stack.enter_context(module.run_through(_emulator(module, path, arch, block_order, reports)))
        stack.enter_context(native.run_on(LIBRARY))
        yield reports


def why_no_emulated_ops() -> str | None:
    """Return why the ops' CUDA kernels cannot be emulated on this machine, or None when they can."""
    return why_no_host_ops() or why_no_nvcc()


def _emulator(
    module: HostModule, source: pathlib.Path, arch: str, block_order: int | None, reports: list[Report]
) -> Callable[[HostLaunch], None]:
    def execute(launch: HostLaunch) -> None:
        ptx = _parsed(compile_ptx(source, arch))
        report = ptx.launch(
            _entry(launch, ptx.kernels),
            launch.grid,
            launch.block,
            launch.arguments,
            shared_bytes=launch.shared_bytes,
            block_order=block_order,
            buffers=_live_memory(module),
        )
        reports.append(report)

    return execute


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """Return the PTX module of a text: 6 MB of CTC take 4 s to read, and a call of the op launches six kernels."""
    from lisa_kernels.testing.ptx import Module

    return Module(text)


def _entry(launch: HostLaunch, kernels: Sequence[str]) -> str:
    """Return the name in PTX; that of a kernel in an unnamed namespace differs between compilers."""
    if launch.symbol in kernels:
        return launch.symbol
    plain = launch.kernel.split("<")[0].split("::")[-1]
    found = [name for name in kernels if name == plain or f"{len(plain)}{plain}" in name]
    if len(found) != 1:
        raise RuntimeError(f"emulated_kernels: {launch.kernel} is not one of {', '.join(kernels)} in the PTX.")
    return found[0]


def _live_memory(module: HostModule) -> list[Any]:
    """Return all memory of torch's CPU tensors that was allocated since recording began."""
    count = module.call("lisa_host_allocations", None, ctypes.c_uint64(0), returns=ctypes.c_uint64)
    pairs = (ctypes.c_uint64 * (2 * count))()
    module.call("lisa_host_allocations", pairs, ctypes.c_uint64(count), returns=ctypes.c_uint64)
    addresses, sizes = pairs[0::2], pairs[1::2]
    return [
        np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
        for address, size in zip(addresses, sizes, strict=True)
        if size
    ]


@functools.cache
def _build(source: pathlib.Path) -> HostModule:
    torch_folder = pathlib.Path(torch.__file__).parent
    include = torch_folder / "include"
    options = (
        f"-DLISA_CUDA_LIBRARY={LIBRARY}",
        "-DLISA_CUDA_KEY=CPU",
        f"-isystem{include}",
        f"-isystem{include / 'torch/csrc/api/include'}",
        f"-L{torch_folder / 'lib'}",
        "-Wl,--no-as-needed",
        "-lc10",
        "-ltorch_cpu",
    )
    return HostModule.build(source, callers=[_binding(source), shim_folder() / "allocations.cpp"], options=options)


def _binding(source: pathlib.Path) -> pathlib.Path:
    return source.with_name(f"{source.stem}_bind_cuda.cpp")
