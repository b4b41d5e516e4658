"""``sanitize``: the block in which launches are watched."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from triton.runtime import interpreter as stock
from triton.runtime.jit import TensorWrapper
from triton.tools.tensor_descriptor import TensorDescriptor

from lisa_kernels.testing.interpreter.builder import HonestBuilder
from lisa_kernels.testing.interpreter.scope import installed
from lisa_kernels.testing.sanitizer import faults
from lisa_kernels.testing.sanitizer.allocations import Allocations
from lisa_kernels.testing.sanitizer.builder import SanitizerBuilder
from lisa_kernels.testing.sanitizer.checks import Checker
from lisa_kernels.testing.sanitizer.faults import Fault, FaultLog, SanitizerError
from lisa_kernels.testing.sanitizer.memory import Memory, View
from lisa_kernels.testing.sanitizer.traffic import Traffic


@dataclasses.dataclass
class Report:
    """What a ``sanitize`` block saw; printing it lists the faults and the traffic.

    Attributes:
        traffic: Bytes by tensor.
    """

    traffic: Traffic
    _log: FaultLog

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults so far; those of one kind, line and tensor are one."""
        return tuple(self._log)

    def __str__(self) -> str:
        found = "\n".join(map(str, self.faults)) or "no faults"
        return f"{found}\n{self.traffic}"


@contextlib.contextmanager
def sanitize(
    tensors: Mapping[str, Tensor] | None = None,
    *,
    outputs: Collection[str] = (),
    exempt: Collection[str] = (),
    poison: bool = False,
    program_order: int | None = None,
    raise_on_fault: bool = True,
) -> Iterator[Report]:
    """Watch every access of every Triton launch in the block, under the honest interpreter; yields the report.

    A launch may touch the elements of the tensors that it is given, and nothing else: a view's gaps, and the rest of
    its storage, are out of bounds.  Lanes outside do not happen, so a wild pointer does no harm; loads give NaN there.
    Tensors are known under the name of the kernel's parameter, or by the name given here.

    Args:
        tensors: Names for tensors.  One that no launch is given, because kernels find its address in memory, may be
            touched by all.
        outputs: Names, or names of kernel parameters, of tensors that hold nothing at the start: reading an element
            before it is written is a fault, and so is one that is unwritten at the end.  Memory that PyTorch allocates
            in the block without filling it, a workspace, needs no mention for the first, and what a ``torch.library``
            operator returns for neither.  Torch operators fill memory; what is written through ``numpy()`` goes unseen.
        exempt: Names that the checks between programs leave out: data that programs hand over behind a flag, and flags
            polled by plain loads.
        poison: Fill ``outputs`` with NaN (integers: the largest value); a NaN that is left at the end is a fault.
        program_order: As for ``honest_interpreter``.
        raise_on_fault: Raise at the end of the block; False leaves the faults to the report.

    Raises:
        SanitizerError: At the end, with every fault: kind, tensor, element, program, lanes and line.
        RuntimeError: Inside another ``sanitize`` block, or as ``honest_interpreter``.
        ValueError: A tensor is not on the CPU, or ``outputs`` or ``exempt`` holds a name that no launch had.

    Example::

        with sanitize() as report:
            kernel[grid](x, out, n, BLOCK=128)
        print(report.traffic)
    """
    current = stock.interpreter_builder
    if isinstance(current, SanitizerBuilder):
        raise RuntimeError("sanitize: it is active already; it takes one block at a time. Leave the outer block first.")
    if program_order is None and isinstance(current, HonestBuilder):
        program_order = current.program_order
    session = _Session(tensors or {}, frozenset(outputs), set(exempt), poison)
    builder = SanitizerBuilder(session.checker, session.on_launch, program_order=program_order)
    try:
        with installed(builder), Allocations(session):
            yield session.report
    except Exception as error:
        if session.report.faults:
            error.add_note(f"sanitize saw before: {SanitizerError(session.report.faults)}")
        raise
    session.check_names()
    session.check_outputs()
    session.count_distinct()
    if session.report.faults and raise_on_fault:
        raise SanitizerError(session.report.faults)


class _Session:
    """Names tensors, tells the memory which of them a launch may touch, and checks the outputs at the end."""

    def __init__(self, tensors: Mapping[str, Tensor], outputs: frozenset[str], exempt: set[str], poison: bool) -> None:
        self.memory, self.log = Memory(), FaultLog()
        self.report = Report(Traffic(), self.log)
        self.checker = Checker(self.memory, self.log, self.report.traffic, exempt)
        self.launching, self.launches = False, 0
        self._outputs, self._exempt, self._poison = outputs, exempt, poison
        self._views: dict[str, View] = {}
        # Names given here, and names of kernel parameters; names of tensors that a launch had.
        self._seen, self._launched = set(tensors), set()
        self._named = dict(tensors)
        # Held so that their memory is not given to others.
        self._output_tensors: dict[str, tuple[Tensor, View]] = {}
        for name, tensor in tensors.items():
            view = self._view(name, tensor, "")
            if name in outputs:
                self._start_empty(tensor, view)

    def on_launch(self, kernel: str, arguments: Mapping[str, Any] | None) -> None:
        """Before a launch: let it touch its tensors.  After it, ``arguments`` is None."""
        if arguments is None:
            self.launching = False
            return
        given = dict(_tensors_of(arguments))
        self._seen.update(given)
        self._allow([self._enter(name, tensor, kernel) for name, tensor in given.items() if tensor.numel()])
        self.launching, self.launches = True, self.launches + 1

    def on_empty(self, tensor: Tensor) -> None:
        if tensor.is_cpu and tensor.numel():
            self.memory.shadow_of(tensor).mark(View.of("", tensor), written=False)

    def on_filled(self, tensor: Tensor) -> None:
        if tensor.is_cpu and tensor.numel() and (shadow := self.memory.at(tensor.data_ptr())) is not None:
            shadow.mark(View.of("", tensor), written=True)

    def on_returned(self, tensor: Tensor, operator: str) -> None:
        """Add a fault for what an operator returns with a hole; torch operators that use it would not notice."""
        if not tensor.is_cpu or not tensor.numel():
            return
        view = self._view("result", tensor, operator)
        self._check_written(tensor, view, f"is never written, and {operator} returns it")

    def check_names(self) -> None:
        """Refuse names that nothing had: a check that was asked for would be missing unseen."""
        for argument, names in (("outputs", self._outputs), ("exempt", self._exempt)):
            if unknown := names - self._seen - set(self._views):
                known = ", ".join(sorted(self._seen)) or "none, as nothing was launched"
                raise ValueError(
                    f"sanitize: {argument} holds {sorted(unknown)}; it takes names of tensors, here {known}."
                )

    def check_outputs(self) -> None:
        """Add a fault for every output with an unwritten element, or with a NaN where it was filled with NaN."""
        for name, (tensor, view) in self._output_tensors.items():
            written = self._check_written(tensor, view, "is never written")
            if self._poison and tensor.dtype.is_floating_point:
                self._add(faults.POISON_LEFT, name, tensor.isnan() & written, "is NaN at the end")

    def count_distinct(self) -> None:
        """Fill in the distinct bytes of every tensor that a launch touched."""
        for name, count in self.report.traffic.tensors.items():
            view = self._views[name]
            shadow = self.memory.at(view.start)
            count.read = int(np.count_nonzero(shadow.cells_of(shadow.reader, view))) * shadow.unit
            count.written = int(np.count_nonzero(shadow.cells_of(shadow.writer, view))) * shadow.unit

    def _enter(self, name: str, tensor: Tensor, kernel: str) -> View:
        """Return the view of a launch's tensor, with what was said of the parameter's name noted under the view's."""
        view = self._view(name, tensor, kernel)
        if name in self._exempt:
            self._exempt.add(view.name)
        first_launch = view.name not in self._launched
        if first_launch and not self._outputs.isdisjoint((name, view.name)):
            self._start_empty(tensor, view)
        self._launched.add(view.name)
        return view

    def _allow(self, views: list[View]) -> None:
        """Let the launch touch these views; in storages without one of them, the tensors named in ``sanitize``."""
        allowed: dict[int, list[View]] = {}
        for view in views:
            allowed.setdefault(self.memory.at(view.start).start, []).append(view)
        for name, tensor in self._named.items():
            if tensor.numel():
                allowed.setdefault(self.memory.shadow_of(tensor).start, [self._views[name]])
        for shadow in self.memory:
            shadow.allow(allowed.get(shadow.start, []))

    def _check_written(self, tensor: Tensor, view: View, what: str) -> Tensor:
        """Add a fault where not every element was written; return where they were."""
        shadow = self.memory.shadow_of(tensor)
        if shadow.written is None:
            return torch.ones(tensor.shape, dtype=torch.bool)
        shadow.refine(view.dtype.itemsize)
        written = torch.from_numpy(shadow.cells_of(shadow.written, view).all(axis=-1))
        self._add(faults.UNWRITTEN, view.name, ~written, what)
        return written

    def _add(self, kind: str, name: str, bad: Tensor, what: str) -> None:
        count = int(bad.sum())
        if count:
            where = ", ".join(map(str, bad.nonzero()[0].tolist()))
            text = f"{name}[{where}] {what}, {count} of {bad.numel()} elements are like it"
            self.log.add(Fault(kind, name, text, elements=count))

    def _view(self, name: str, tensor: Tensor, kernel: str) -> View:
        """Return the view of a tensor under its first name; a name that is taken gets the kernel's before it."""
        if not tensor.is_cpu:
            raise ValueError(f"sanitize: {name} is on {tensor.device}; it takes CPU tensors.")
        new = View.of(name, tensor)
        for known in self._views.values():
            if known.same_memory(new):
                return known
        candidates = [name, f"{kernel}.{name}", *(f"{kernel}.{name} {i}" for i in range(2, len(self._views) + 3))]
        free = next(candidate for candidate in candidates if candidate not in self._views)
        self._views[free] = dataclasses.replace(new, name=free)
        self.memory.shadow_of(tensor)
        return self._views[free]

    def _start_empty(self, tensor: Tensor, view: View) -> None:
        if view.name in self._output_tensors or not tensor.numel():
            return
        self._output_tensors[view.name] = (tensor, view)
        self.memory.shadow_of(tensor).mark(view, written=False)
        if self._poison:
            with torch.no_grad():
                floating = tensor.dtype.is_floating_point
                tensor.fill_(float("nan") if floating else tensor.dtype != torch.bool and torch.iinfo(tensor.dtype).max)
            self.memory.shadow_of(tensor).mark(view, written=False)


def _tensors_of(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in arguments.items():
        if isinstance(value, TensorWrapper):
            value = value.base
        if isinstance(value, TensorDescriptor):
            value = value.base
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, tuple):
            yield from _tensors_of({f"{name}[{i}]": item for i, item in enumerate(value)})
