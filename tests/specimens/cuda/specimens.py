"""The CUDA specimens with their inputs, launch shapes and expectations."""

from __future__ import annotations

import ctypes
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.testing.cuda import struct_argument

FOLDER = pathlib.Path(__file__).resolve().parent
Fields = Mapping[str, Any]


class MatmulParams(ctypes.Structure):
    _fields_ = (
        ("a", ctypes.c_void_p), ("b", ctypes.c_void_p), ("c", ctypes.c_void_p),
        ("M", ctypes.c_int32), ("N", ctypes.c_int32), ("K", ctypes.c_int32),
    )  # fmt: skip


class RowParams(ctypes.Structure):
    """``SoftmaxParams``, ``ScanParams``, ``RowSumParams`` and ``FlipParams``: the same layout."""

    _fields_ = (
        ("input", ctypes.c_void_p), ("output", ctypes.c_void_p), ("rows", ctypes.c_int32), ("columns", ctypes.c_int32)
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CudaSpecimen:
    """One kernel, and a problem small enough for the host and the emulator.

    Attributes:
        params: Layout of its only argument.
        grid: Blocks in x, y, z.
        block: Threads in x, y, z.
        make_fields: ``(seed) -> fields of params``; the output holds NaN, or the largest value if it is integer.
        output: The field that the kernel writes.
        expected: ``(fields) -> output`` in fp64; int32 outputs exactly.
        depth: Roundings in sequence behind an output.
        shared_bytes: Dynamic shared memory.
        further: Grids and fields of further problems, at and around the sizes of tiles.
    """

    name: str
    params: type[ctypes.Structure]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    make_fields: Callable[[int], dict[str, Any]]
    output: str
    expected: Callable[[Fields], Tensor]
    depth: int
    shared_bytes: int = 0
    further: tuple[tuple[tuple[int, int, int], Callable[[int], dict[str, Any]]], ...] = ()

    @property
    def problems(self) -> tuple[CudaSpecimen, ...]:
        """Return the specimen once for each of its problems."""
        others = (dataclasses.replace(self, grid=grid, make_fields=fields) for grid, fields in self.further)
        return (self, *others)

    @property
    def source(self) -> pathlib.Path:
        """Return the path of the ``.cu`` file."""
        return FOLDER / f"{self.name}.cu"

    @property
    def kernel(self) -> str:
        """Return the name of the kernel, in PTX as well."""
        return f"{self.name}_kernel"

    def args(self, fields: Fields) -> list[Any]:
        """Return the kernel's arguments."""
        return [struct_argument(self.params, fields)]


def _matmul_fields(M: int, N: int, K: int) -> Callable[[int], dict[str, Any]]:
    def make(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        a, b = torch.randn(M, K, generator=generator), torch.randn(K, N, generator=generator)
        return {"a": a, "b": b, "c": torch.full((M, N), float("nan")), "M": M, "N": N, "K": K}

    return make


def _row_fields(rows: int, columns: int, first: float | None = None) -> Callable[[int], dict[str, Any]]:
    """Random rows; ``first`` is the value of their first element."""

    def make(seed: int) -> dict[str, Any]:
        values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
        if first is not None:
            values[:, 0] = first
        return {"input": values, "output": torch.full_like(values, float("nan")), "rows": rows, "columns": columns}

    return make


def _scan_fields(rows: int, columns: int) -> Callable[[int], dict[str, Any]]:
    def make(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        values = torch.randint(-50, 50, (rows, columns), dtype=torch.int32, generator=generator)
        output = torch.full_like(values, torch.iinfo(torch.int32).max)
        return {"input": values, "output": output, "rows": rows, "columns": columns}

    return make


def _row_sum_fields(rows: int, columns: int) -> Callable[[int], dict[str, Any]]:
    return lambda seed: {**_row_fields(rows, columns)(seed), "output": torch.full((rows,), float("nan"))}


def flipped(rows: Tensor, piece: int = 256) -> Tensor:
    """Return each row with its pieces turned round, the last one filled up with 0."""
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % piece))
    return padded.unflatten(1, (-1, piece)).flip(2).flatten(1)[:, : rows.shape[1]]


CUDA_SPECIMENS = {
    specimen.name: specimen
    for specimen in (
        # Odd in every direction: tails in rows, columns and depth; two and three tiles.
        CudaSpecimen(
            "matmul", MatmulParams, (3, 2, 1), (16, 16, 1), _matmul_fields(19, 37, 45), "c",
            lambda fields: fields["a"].double() @ fields["b"].double(), depth=45,
            further=(((1, 1, 1), _matmul_fields(16, 16, 16)), ((1, 1, 1), _matmul_fields(1, 1, 1))),
        ),
        # Without the first element, the maximum of a row would let its exponential overflow.
        CudaSpecimen(
            "softmax", RowParams, (3, 1, 1), (128, 1, 1), _row_fields(3, 301), "output",
            lambda fields: fields["input"].double().softmax(-1), depth=301,
            further=(((2, 1, 1), _row_fields(2, 1)), ((2, 1, 1), _row_fields(2, 128, first=200.0))),
        ),
        CudaSpecimen(
            "scan", RowParams, (3, 1, 1), (128, 1, 1), _scan_fields(3, 301), "output",
            lambda fields: fields["input"].double().cumsum(-1), depth=1, shared_bytes=16,
            further=(((1, 1, 1), _scan_fields(1, 1)), ((1, 1, 1), _scan_fields(1, 256))),
        ),
        # Rows of one block and a half: the last block has warps without a row.
        CudaSpecimen(
            "row_sum", RowParams, (2, 1, 1), (128, 1, 1), _row_sum_fields(6, 100), "output",
            lambda fields: fields["input"].double().sum(-1), depth=100,
            further=(((1, 1, 1), _row_sum_fields(1, 1)), ((1, 1, 1), _row_sum_fields(4, 64))),
        ),
        CudaSpecimen(
            "flip", RowParams, (2, 1, 1), (64, 1, 1), _row_fields(2, 780), "output",
            lambda fields: flipped(fields["input"].double()), depth=1,
            further=(((1, 1, 1), _row_fields(1, 4)), ((1, 1, 1), _row_fields(1, 512))),
        ),
    )
}  # fmt: skip
