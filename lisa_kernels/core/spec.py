"""``OpSpec``: one description of an op for tests, verification, benchmarks and offline compilation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# (case, dtype, device, generator) -> keyword arguments of the public function.
MakeInputs = Callable[["Case", torch.dtype, torch.device, torch.Generator], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem size, or one edge of the semantics.

    Attributes:
        name: What is special about it.
        sizes: Sizes in the op's own letters.
        options: Keyword arguments of the public function beyond its tensors.
        edge: Key of a special input, for the op's ``inputs``; empty for ordinary numbers.
    """

    name: str
    sizes: Mapping[str, int]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    edge: str = ""

    def __getitem__(self, size: str) -> int:
        return self.sizes[size]


@dataclasses.dataclass(frozen=True)
class BadInput:
    """A call that must raise ``error`` with ``message`` in its text.

    Attributes:
        name: What is wrong.
        change: ``(good keyword arguments) -> bad ones``.
        error: The exception's class.
        message: A part of the text: the argument and what came.
    """

    name: str
    change: Callable[[dict[str, Any]], dict[str, Any]]
    error: type[Exception]
    message: str


@dataclasses.dataclass(frozen=True)
class OpSpec:
    """All that the rest of the repository knows about an op.

    Attributes:
        name: The public function's name.
        function: The public function.
        explain: ``(same arguments) -> Explanation``.
        reference: The same function in plain PyTorch, any float dtype.
        inputs: Makes keyword arguments for a case.
        differentiable: Arguments that get a gradient.
        dtypes: Dtypes of those arguments that every backend supports.
        cases: Small cases for tests and verification (``full`` adds more).
        full: Larger cases, for ``verify --full``.
        edges: Cases at the edges of the semantics.
        bad_inputs: Calls that must raise.
        bench: Real sizes for timing.
        depth: ``(case) -> roundings in sequence`` behind an output; sets the tolerance.
        limit: ``(output or gradient, dtype) -> largest error over largest value`` that the op promises whatever the
            size; None where it promises nothing beyond the tolerance.
        flops: ``(case) -> floating-point operations`` of forward and backward.
        bytes: ``(case, dtype) -> (forward, backward)`` bytes that must move at the least.
        traffic: ``(keyword arguments) -> (read, written)``: tensors that forward and backward must read and write once
            each; the benchmark times that copy as the machine's limit.
        half_roundings: Roundings to half precision in sequence behind a half result: 1 where only the result is
            rounded, more where operands of a second matrix product are.
    """

    name: str
    function: Callable[..., Any]
    explain: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: MakeInputs
    differentiable: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    cases: tuple[Case, ...]
    full: tuple[Case, ...]
    edges: tuple[Case, ...]
    bad_inputs: tuple[BadInput, ...]
    bench: tuple[Case, ...]
    depth: Callable[[Case], int]
    limit: Callable[[str, torch.dtype], float | None]
    flops: Callable[[Case], float]
    bytes: Callable[[Case, torch.dtype], tuple[int, int]]
    traffic: Callable[[dict[str, Any]], tuple[Tensor, Tensor]]
    half_roundings: int = 1


def make_generator(case: Case, seed: int = 0) -> torch.Generator:
    """Return a CPU generator seeded by the case's name: cases do not depend on each other's order."""
    return torch.Generator().manual_seed(seed + sum(ord(c) * 31**i for i, c in enumerate(case.name)) % 2**40)
