"""Every launch an op makes, from its own host code on ``meta`` tensors: no list of kernels is kept by hand.

The public function runs on meta tensors for each case and dtype of the spec.  A dispatch mode hands the op's registered
forward and backward to ``triton_impl`` instead of the fake, inside ``core.launch.record``: checks, layout changes and
autograd are the real ones, and what is recorded is what a GPU of the forced target would be asked to run.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lisa_kernels.core.launch import LaunchRecord, record
from lisa_kernels.core.library import Op
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.core.targets import TARGETS, force_target
from lisa_kernels.core.tiling import Tile
from lisa_kernels.testing.inputs import make_inputs, require_grad
from lisa_kernels.testing.static.driverless import record_driverless
from lisa_kernels.testing.static.jobs import Job, merge
from lisa_kernels.testing.subject import name_outputs


@dataclasses.dataclass(frozen=True)
class Collection:
    """What one op launches.

    Attributes:
        op: The function.
        jobs: Without repetitions.
        notes: Why something was not collected: refused dtypes, targets without a tile.
        unreached: Rows of ``tiles.py`` that no case of the spec reaches, ``"TILES sm_80 up to 4096"``.
    """

    op: str
    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()


def collect(spec: OpSpec, targets: Iterable[str]) -> Collection:
    """Return the launches of all cases and dtypes of a spec, forward and backward, for each target.

    Args:
        targets: Keys of ``core.targets.TARGETS`` with a compiler.

    Raises:
        ValueError: An unknown target.
        RuntimeError: The host code fails on meta tensors; the message names case and dtype.
    """
    targets = tuple(targets)
    kernels = triton_ops(spec)
    if not kernels:
        return Collection(spec.name, ())
    jobs, notes = [], []
    for case, dtype, real_size in _problems(spec):
        inputs = make_inputs(spec, case, dtype, "meta")
        for target in targets:
            try:
                launches, refusals = _launches(spec, inputs, kernels, target)
            except LookupError as error:
                notes.append(f"{target}: {error}")
                continue
            except Exception as error:
                what = f"{spec.name}, case {case.name!r}, {dtype}, {target}"
                raise RuntimeError(f"collect: {what}: host code fails on meta tensors: {error}") from error
            notes += [f"{str(dtype).removeprefix('torch.')}: refused: {reason}" for reason in refusals]
            jobs += [Job(spec.name, target, launch, (case.name,), real_size) for launch in launches]
    merged = merge(jobs)
    unreached = [row for op in kernels.values() for row in _unreached_rows(op, merged, targets)]
    return Collection(spec.name, tuple(merged), tuple(dict.fromkeys(notes)), tuple(dict.fromkeys(unreached)))


def collect_from(function: Callable[[], Any], targets: Iterable[str], *, name: str) -> Collection:
    """Return what a function of anybody launches.

    Args:
        function: Takes nothing; it launches kernels, as ``kernel[grid](...)`` or through ``core.launch.launch``, or
            returns records of ``core.launch.specialise``, or all of them.  No kernel runs, no tensor needs a GPU.
        name: Stands where the op's name would.

    Raises:
        ValueError: An unknown target, a launch that cannot be collected, or nothing was launched.
    """
    jobs = []
    for target in targets:
        with force_target(target), record() as launches, record_driverless(target) as plain:
            returned = function()
        if isinstance(returned, LaunchRecord):
            returned = [returned]
        extra = [entry for entry in returned or () if isinstance(entry, LaunchRecord)]
        jobs += [Job(name, target, launch) for launch in [*launches, *plain, *extra]]
    if not jobs:
        raise ValueError(
            f"collect_from: {name} launched nothing; it takes a function that launches kernels, as kernel[grid](...) "
            f"or through lisa_kernels.core.launch.launch, or returns records of lisa_kernels.core.launch.specialise."
        )
    return Collection(name, tuple(merge(jobs)))


class RunTriton(TorchDispatchMode):
    """Runs ``triton_impl`` where a registered op of ``kernels`` (``triton_ops``) is called."""

    def __init__(self, kernels: Mapping[str, Op]) -> None:
        super().__init__()
        self._kernels = kernels
        self.refusals: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        namespace, _, name = func.name().partition("::")
        op = self._kernels.get(name.removesuffix("_fwd").removesuffix("_bwd"))
        if namespace != "lisa" or op is None:
            return func(*args, **(kwargs or {}))
        module = _triton(op).module
        named = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=True)}
        refuse = getattr(module, "refuse", None)
        if refuse and (reason := refuse(named)):
            self.refusals.append(reason)
            return func(*args)
        return (module.forward if name.endswith("_fwd") else module.backward)(*args)


def _launches(
    spec: OpSpec, inputs: Mapping[str, Any], kernels: Mapping[str, Op], target: str
) -> tuple[list[LaunchRecord], list[str]]:
    """Forward without gradients, then forward and backward with all of them."""
    mode = RunTriton(kernels)
    with force_target(target), record() as launches:
        with mode, torch.no_grad():
            spec.function(**inputs)
        with mode:
            outputs = name_outputs(spec.function(**require_grad(inputs, spec.differentiable)))
            for output in outputs.values():
                if output.requires_grad:
                    output.sum().backward(retain_graph=True)
    return launches, mode.refusals


def _problems(spec: OpSpec) -> Iterator[tuple[Case, torch.dtype, bool]]:
    for cases, real_size in ((spec.bench, True), (spec.cases, False)):
        for case in cases:
            for dtype in spec.dtypes:
                yield case, dtype, real_size


def triton_ops(spec: OpSpec) -> dict[str, Op]:
    """Return the operators, by name, that the module of the public function defines and that have Triton kernels."""
    found = (value for value in vars(sys.modules[spec.function.__module__]).values() if isinstance(value, Op))
    return {op.name: op for op in found if _triton(op).package is not None}


def _triton(op: Op) -> Any:
    return next(backend for backend in op.backends if backend.name == "triton")


def _unreached_rows(op: Op, jobs: Iterable[Job], targets: Iterable[str]) -> Iterator[str]:
    reached = {
        target: [(job.record.constexprs, job.record.options) for job in jobs if job.target == target]
        for target in targets
    }
    for table, rows in _tables(importlib.import_module(f"{_triton(op).package}.tiles")):
        for target in targets:
            for largest, tile in rows.get(target, ()):
                if not any(_is_of(tile, *launched) for launched in reached[target]):
                    yield f"{table} {target} {'any size' if largest is None else f'up to {largest}'}: {tile}"


def _tables(tiles: ModuleType) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Tables of ``pick`` in a ``tiles.py``: mappings from targets to rows."""
    for name, value in vars(tiles).items():
        if isinstance(value, Mapping) and value and set(value) <= set(TARGETS):
            yield name, value


def _is_of(tile: Tile, constexprs: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether a launch took this row; rows of two kernels with the same numbers are not told apart."""
    return tile.options() == dict(options) and tile.constexprs().items() <= constexprs.items()
