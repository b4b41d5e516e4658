"""Mutants of the CUDA specimens' source: on the host, and as nvcc's PTX in the emulator."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

from lisa_kernels.testing.cuda import HostFault, HostModule, compile_ptx
from lisa_kernels.testing.mutation import cuda_mutants
from lisa_kernels.testing.ptx import Module, PtxError
from tests.mutation.trial import Outputs, Subject
from tests.specimens.cuda.specimens import CUDA_SPECIMENS, FOLDER, CudaSpecimen

# Not a seed of an order but the build with AddressSanitizer and UndefinedBehaviorSanitizer.
_SANITIZED = 1000


def host_subject(name: str) -> Subject:
    """Return one specimen through g++: threads in three random orders, then once with sanitizers."""
    specimen = CUDA_SPECIMENS[name]

    def run(text: str, problem: int, order: int | None) -> Outputs:
        module = HostModule.build(text, include_dirs=[FOLDER], sanitize=order == _SANITIZED)
        fields = specimen.make_fields(0)
        seed = None if order == _SANITIZED else order
        module.launch(
            specimen.kernel, specimen.grid, specimen.block, specimen.args(fields),
            shared_bytes=specimen.shared_bytes, seed=seed,
        )  # fmt: skip
        return _outputs(specimen, fields)

    return _subject(specimen, "CUDA on the host", run, orders=(1, 2, 3, _SANITIZED), fault=HostFault)


def ptx_subject(name: str, arch: str) -> Subject:
    """Return one specimen as nvcc compiles it."""
    specimen = CUDA_SPECIMENS[name]

    def run(text: str, problem: int, order: int | None) -> Outputs:
        module = Module(compile_ptx(text, arch, include_dirs=[FOLDER]))
        fields = specimen.make_fields(0)
        tensors = [value for value in fields.values() if isinstance(value, Tensor)]
        module.launch(
            specimen.kernel, specimen.grid, specimen.block, [_struct_bytes(specimen, fields)],
            shared_bytes=specimen.shared_bytes, buffers=tensors,
            schedule="lockstep" if order is None else order,
        )  # fmt: skip
        return _outputs(specimen, fields)

    return _subject(specimen, f"PTX {arch} of nvcc", run, orders=(1, 2), fault=PtxError)


def _subject(specimen: CudaSpecimen, means: str, run: Any, *, orders: tuple[int, ...], fault: type) -> Subject:
    text = specimen.source.read_text()
    expected = [{specimen.output: specimen.expected(specimen.make_fields(0))}]
    return Subject(
        specimen.name, means, cuda_mutants(text), text, run, expected, specimen.depth, orders, faults=(fault,)
    )


def _outputs(specimen: CudaSpecimen, fields: dict[str, Any]) -> Outputs:
    output = fields[specimen.output]
    return {specimen.output: output if output.is_floating_point() else output.double()}


def _struct_bytes(specimen: CudaSpecimen, fields: dict[str, Any]) -> bytes:
    values = {name: v.data_ptr() if isinstance(v, Tensor) else v for name, v in fields.items()}
    return bytes(ctypes.string_at(ctypes.byref(specimen.params(**values)), ctypes.sizeof(specimen.params)))
