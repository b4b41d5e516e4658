"""``python -m bench memory``: what a step allocates and launches, at sizes that need not fit this machine.

The op's own host code for Triton runs on ``meta`` tensors, which have sizes and no memory: every tensor it makes is
counted from its making to its end.  ``--measure`` runs the CPU kernels and the peers beside it, in torch's allocator.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.memory import MIB, peak_bytes
from bench.peers import load
from bench.providers import LIMITS, build, make_case_inputs, provider_names
from lisa_kernels.core import registry
from lisa_kernels.core.launch import record
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.core.targets import force_target
from lisa_kernels.testing.inputs import make_inputs, require_grad
from lisa_kernels.testing.static.collect import RunTriton, triton_ops

_DTYPES = (torch.float32, torch.bfloat16)
_LINE = "  {:40} {:>10} {:>10} {:>10}  {}"


@dataclasses.dataclass(frozen=True)
class Step:
    """What forward and backward of one call allocate and launch.

    Attributes:
        forward_bytes: Held at the peak of forward, beyond the inputs.
        kept_bytes: Held between forward and backward.
        peak_bytes: Held at the peak of both.
        launches: Kernels of forward and of backward.
    """

    forward_bytes: int
    kept_bytes: int
    peak_bytes: int
    launches: tuple[int, int]


class Meter(TorchDispatchMode):
    """Counts the bytes of storages that ops make while the block runs, until nothing refers to them."""

    def __init__(self, known: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._meet(value.untyped_storage())
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.held += storage.nbytes()
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.held -= size


def triton_step(spec: OpSpec, case: Case, dtype: torch.dtype, target: str) -> Step:
    """Return what one step of the Triton backend allocates and launches for a GPU target.

    Raises:
        LookupError: No tile for the target.
        NotImplementedError: The backend refuses the call; the text is its reason.
    """
    inputs = require_grad(make_inputs(spec, case, dtype, "meta"), spec.differentiable)
    kernels = RunTriton(triton_ops(spec))
    known = tuple(value for value in inputs.values() if isinstance(value, Tensor))
    with force_target(target), record() as launches, Meter(known) as meter, kernels:
        result = spec.function(**inputs)
        forward_bytes, kept_bytes, forward_launches = meter.peak, meter.held, len(launches)
        gradients = torch.autograd.grad(result.sum(), [inputs[name] for name in spec.differentiable])
        del gradients
    if kernels.refusals:
        raise NotImplementedError(kernels.refusals[0])
    return Step(forward_bytes, kept_bytes, meter.peak, (forward_launches, len(launches) - forward_launches))


def run(ops: tuple[str, ...], *, target: str, measure: bool, say: Callable[[str], None] = print) -> int:
    """Print a table for each case that ``bench/ops/<op>.py`` names under ``MEMORY`` and return 0.

    Raises:
        ValueError: An op that does not exist.
    """
    for spec in registry.select(ops):
        for case in getattr(load(spec), "MEMORY", {}).get(spec.name, ()):
            for dtype in (dtype for dtype in _DTYPES if dtype in spec.dtypes):
                inputs = make_inputs(spec, case, dtype, "meta")
                size = sum(inputs[name].nbytes for name in spec.differentiable) / MIB
                sizes = " ".join(f"{name}={value}" for name, value in case.sizes.items())
                say(f"\n{spec.name}, {sizes}, {dtype}: {size:.0f} MiB of inputs, MiB beyond them:")
                say(_LINE.format("", "forward", "kept", "peak", ""))
                for line in (*_ours(spec, case, dtype, target), *(_measured(spec, case, dtype) if measure else ())):
                    say(line)
    return 0


def _ours(spec: OpSpec, case: Case, dtype: torch.dtype, target: str) -> Iterator[str]:
    name = f"lisa triton, {target}"
    if not triton_ops(spec):
        return
    try:
        step = triton_step(spec, case, dtype, target)
    except (LookupError, NotImplementedError) as reason:
        yield f"  {name}: {reason}"
        return
    sizes = (step.forward_bytes, step.kept_bytes, step.peak_bytes)
    told = f"host code on meta tensors; {step.launches[0]} + {step.launches[1]} launches"
    yield _LINE.format(name, *(f"{size / MIB:.0f}" for size in sizes), told)


def _measured(spec: OpSpec, case: Case, dtype: torch.dtype) -> Iterator[str]:
    device = torch.device("cpu")
    inputs = make_case_inputs(spec, case, dtype, device)
    names = [name for name in provider_names(spec, device) if name not in (*LIMITS, "lisa reference")]
    providers, absent = build(spec, case, inputs, names=names, quick=True)
    for provider in providers:
        with provider.around():
            peaks = peak_bytes(provider.forward, provider.backward, device)
        told = "torch's allocator on this CPU"
        yield _LINE.format(provider.name, f"{peaks['fwd'] / MIB:.0f}", "", f"{peaks['fwd+bwd'] / MIB:.0f}", told)
    yield from (f"  {one.name}: {one.reason}" for one in absent)
