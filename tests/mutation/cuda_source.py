"""Mutants of the CUDA specimens' source: on the host, and as nvcc's PTX in the emulator."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

from lisa_kernels.testing.cuda import HostFault, HostModule, compile_ptx
from lisa_kernels.testing.mutation import Mutant, cuda_mutants
from lisa_kernels.testing.ptx import Module, PtxError
from tests.mutation.known_harmless import KNOWN_HARMLESS_CUDA
from tests.mutation.trial import Outputs, Subject
from tests.specimens.cuda.specimens import CUDA_SPECIMENS, FOLDER, CudaSpecimen


def host_subject(name: str) -> Subject:
    """Return one specimen through g++: once with sanitizers, in a process of its own, then in three random orders.

    Sanitizers first: a wild write of an ordinary build would take this process with it.
    """
    specimen = CUDA_SPECIMENS[name]

    def run(text: str, problem: int, order: int | None) -> Outputs:
        module = HostModule.build(text, include_dirs=[FOLDER], sanitize=order is None)
        sized = specimen.problems[problem]
        fields = sized.make_fields(0)
        module.launch(
            sized.kernel, sized.grid, sized.block, sized.args(fields), shared_bytes=sized.shared_bytes, seed=order
        )
        return _outputs(specimen, fields)

    return _subject(specimen, "CUDA on the host", run, orders=(1, 2, 3), fault=HostFault)


def ptx_subject(name: str, arch: str) -> Subject:
    """Return one specimen as nvcc compiles it."""
    specimen = CUDA_SPECIMENS[name]

    def run(text: str, problem: int, order: int | None) -> Outputs:
        module = Module(compile_ptx(text, arch, include_dirs=[FOLDER]))
        sized = specimen.problems[problem]
        fields = sized.make_fields(0)
        tensors = [value for value in fields.values() if isinstance(value, Tensor)]
        module.launch(
            sized.kernel,
            sized.grid,
            sized.block,
            [_struct_bytes(sized, fields)],
            shared_bytes=sized.shared_bytes,
            buffers=tensors,
            schedule="lockstep" if order is None else order,
        )
        return _outputs(specimen, fields)

    return _subject(specimen, f"PTX {arch} of nvcc", run, orders=(1, 2), fault=PtxError)


def _subject(specimen: CudaSpecimen, means: str, run: Any, *, orders: tuple[int, ...], fault: type) -> Subject:
    text = specimen.source.read_text()
    expected = [{sized.output: sized.expected(sized.make_fields(0))} for sized in specimen.problems]

    def why_harmless(mutant: Mutant) -> str:
        return KNOWN_HARMLESS_CUDA.get((specimen.name, mutant.kind, mutant.line), "")

    mutants = cuda_mutants(text)
    return Subject(specimen.name, means, mutants, text, run, expected, specimen.depth, orders, (fault,), why_harmless)


def _outputs(specimen: CudaSpecimen, fields: dict[str, Any]) -> Outputs:
    output = fields[specimen.output]
    return {specimen.output: output if output.is_floating_point() else output.double()}


def _struct_bytes(specimen: CudaSpecimen, fields: dict[str, Any]) -> bytes:
    values = {name: v.data_ptr() if isinstance(v, Tensor) else v for name, v in fields.items()}
    return bytes(ctypes.string_at(ctypes.byref(specimen.params(**values)), ctypes.sizeof(specimen.params)))
