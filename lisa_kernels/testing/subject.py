"""The function under judgement: one case, one dtype, one engine."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.testing.compare import same_bits
from lisa_kernels.testing.engines import Engine
from lisa_kernels.testing.inputs import clone_inputs, make_inputs, require_grad, to_fp64

# Upstream of a scalar: not 1, so that a backward that ignores it is seen.
_SCALAR_UPSTREAM = 0.3


@dataclasses.dataclass(frozen=True)
class Result:
    """Outputs and gradients of one call, by name; a function that returns one tensor calls it ``output``."""

    outputs: dict[str, Tensor]
    grads: dict[str, Tensor]

    def differs_from(self, other: Result) -> str:
        """Return the name of the first tensor whose bits differ, or an empty text."""
        mine, theirs = self.outputs | self.grads, other.outputs | other.grads
        return next((name for name in mine if name not in theirs or not same_bits(mine[name], theirs[name])), "")


@dataclasses.dataclass
class Subject:
    """Runs ``spec.function`` on one engine, and ``spec.reference``, on the same inputs and upstream gradient."""

    spec: OpSpec
    case: Case
    dtype: torch.dtype
    device: torch.device
    engine: Engine
    # More than two: an uneven share of the work moves the boundaries between threads.
    threads: tuple[int, ...] = (1, 2, 3, 4)

    def __post_init__(self) -> None:
        self.inputs = make_inputs(self.spec, self.case, self.dtype, self.device)
        self._generator = torch.Generator().manual_seed(1)
        self._upstream: dict[str, Tensor] = {}

    def run(
        self,
        kwargs: Mapping[str, Any] | None = None,
        *,
        wanted: tuple[str, ...] | None = None,
        between: Callable[[], object] | None = None,
        order_seed: int | None = None,
    ) -> Result:
        """Return outputs and gradients.

        Args:
            kwargs: Arguments of the call; None for fresh copies of the inputs.
            wanted: Arguments that get a gradient, the others are frozen; None for all that can.
            between: Called after forward and before backward.
            order_seed: Of the order in which the engine runs programs, blocks or threads; None for the usual one.
        """
        kwargs = clone_inputs(self.inputs) if kwargs is None else kwargs
        with self.engine.within(order_seed):
            return self._differentiate(self.spec.function, kwargs, wanted, between)

    def forward(self, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the outputs of one call; gradients are tracked if the inputs ask for it."""
        with self.engine.within(None):
            return name_outputs(self.spec.function(**kwargs))

    def reference(self, dtype: torch.dtype = torch.float64) -> Result:
        """Return outputs and gradients of the definition, by autograd, computed in ``dtype``."""
        # Thousands of operations on tiny tensors: with two threads on busy cores they took 10 times as long.
        with cpu_threads(1):
            return self._differentiate(self.spec.reference, to_fp64(self.inputs, dtype))

    def _differentiate(
        self,
        function: Callable[..., Any],
        kwargs: Mapping[str, Any],
        wanted: tuple[str, ...] | None = None,
        between: Callable[[], object] | None = None,
    ) -> Result:
        wanted = self.spec.differentiable if wanted is None else wanted
        leaves = require_grad(kwargs, wanted)
        outputs = name_outputs(function(**leaves))
        graded = {name: output for name, output in outputs.items() if output.requires_grad}
        plain = {name: output.detach() for name, output in outputs.items()}
        if between is not None:
            between()
        if not graded:
            return Result(plain, {})
        upstream = [self._upstream_of(name, output) for name, output in graded.items()]
        grads = torch.autograd.grad(list(graded.values()), [leaves[name] for name in wanted], upstream)
        return Result(plain, {f"grad_{name}": grad for name, grad in zip(wanted, grads, strict=True)})

    def _upstream_of(self, name: str, output: Tensor) -> Tensor:
        """Random, and the same for every later call; in the precision of the function's own output."""
        if name not in self._upstream:
            scalar = torch.tensor(_SCALAR_UPSTREAM)
            upstream = torch.randn(output.shape, generator=self._generator) if output.dim() else scalar
            self._upstream[name] = upstream.to(output.device, output.dtype)
        return self._upstream[name].to(output.dtype)


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run CPU kernels with ``count`` threads while the block runs."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def name_outputs(outputs: Any) -> dict[str, Tensor]:
    """Return what a public function returned as named tensors: one tensor, a tuple or the tensors of a dataclass."""
    if isinstance(outputs, Tensor):
        return {"output": outputs}
    if dataclasses.is_dataclass(outputs):
        fields = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
        return {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    return {f"output {i}": output for i, output in enumerate(outputs)}
