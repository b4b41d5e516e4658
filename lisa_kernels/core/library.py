"""``define_op``: two schemas and the op's folder become one differentiable, compilable operator.

The argument names of the two schemas are the whole wiring.  In the backward schema

* ``grad_<output>`` is the gradient of a forward output,
* the name of a forward input or output means "save this",
* ``needs`` (``bool[]``) tells which of the returned gradients are wanted,

and each return is named ``grad_<input>``.  A backend may return an empty tensor for a gradient that is not needed.
Ops are functional: no argument is mutated, no output aliases an input.  The one exception is asked for by name: an op
with ``overwritten="x"`` has a flag ``overwrite_x``, and where it is set backward writes the gradient over ``x``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.dispatch import Backend, Explanation, choose, explain_call

_LIBRARY = torch.library.Library("lisa", "FRAGMENT")


@dataclasses.dataclass(frozen=True)
class Op:
    """A registered operator.  Calling it takes the forward schema's arguments and returns its outputs as a tuple."""

    name: str
    backends: tuple[Backend, ...]
    inputs: tuple[str, ...]
    apply: Callable[..., tuple[Tensor, ...]]

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        return self.apply(*args)

    def explain(self, *args: Any) -> Explanation:
        """Return which backend would run this call, and why not the others."""
        return explain_call(self.backends, dict(zip(self.inputs, args, strict=True)))


def define_op(
    name: str,
    *,
    package: str,
    forward: str,
    backward: str | None,
    fakes: tuple[Callable[..., Any], ...],
    backends: tuple[str, ...],
    check_values: Callable[[Mapping[str, Any]], None] | None = None,
    autocast: tuple[str, ...] = (),
    overwritten: str | None = None,
) -> Op:
    """Register ``lisa::<name>_fwd`` and ``lisa::<name>_bwd`` and return the callable operator.

    Args:
        name: Name of the public function.
        package: The op's folder as a dotted path; ``native_impl``, ``triton_impl`` and ``reference`` in it hold
            ``forward``, ``backward`` and, if they have limits, ``refuse(named) -> str | None``.
        forward: Schema with named returns, ``"(Tensor x) -> (Tensor y)"``.
        backward: Schema wired by names, see the module's docstring; None for an op without a gradient.
        fakes: Shape functions of forward and backward.
        backends: The backends this op has; the order of preference is ``config.BACKENDS``.
        check_values: Raises on bad values of CPU tensors, before a forward runs; gets the arguments by name.
        autocast: Inputs that follow the autocast dtype.
        overwritten: An input that backward may write its gradient over, where the forward's input
            ``overwrite_<overwritten>`` is true.  It adds ``lisa::<name>_bwd_overwrite``, which returns nothing and is
            ``backward_overwriting`` in the backends.

    Raises:
        ValueError: The backward schema holds a name that is neither a gradient, an input nor an output.
    """
    table = tuple(Backend(name, b, package if b in backends else None) for b in BACKENDS)
    fwd = _register(f"{name}_fwd", forward, fakes[0], table, "forward", check_values)
    inputs = _names(fwd._schema.arguments)
    if backward is None:
        return Op(name, table, inputs, lambda *args: _as_tuple(fwd(*args)))
    bwd = _register(f"{name}_bwd", backward, fakes[1], table, "backward", None)
    over = _register_overwriting(name, backward, overwritten, table) if overwritten else None
    function, input_slots = _autograd_function(name, fwd, bwd, over)
    cast_slots = tuple(inputs.index(n) for n in autocast)

    def apply(*args: Any) -> tuple[Tensor, ...]:
        if cast_slots and torch.is_autocast_enabled(device := args[cast_slots[0]].device.type):
            dtype = torch.get_autocast_dtype(device)
            args = tuple(a.to(dtype) if i in cast_slots else a for i, a in enumerate(args))
        # No Function where no gradient is wanted: 9 µs a call less (measured on a CPU).
        if torch.is_grad_enabled() and any(args[i].requires_grad for i in input_slots):
            return function.apply(*args)
        return _as_tuple(fwd(*args))

    return Op(name, table, inputs, apply)


def _autograd_function(
    name: str, fwd: Any, bwd: Any, over: _Overwriting | None
) -> tuple[type[torch.autograd.Function], tuple[int, ...]]:
    """Return the autograd Function that ties both ops, and the positions of the differentiable inputs."""
    inputs, outputs = _names(fwd._schema.arguments), _names(fwd._schema.returns)
    wants, gives = _names(bwd._schema.arguments), _names(bwd._schema.returns)
    is_tensor = {a.name: "Tensor" in str(a.type) for a in (*fwd._schema.arguments, *fwd._schema.returns)}

    # Wiring by name, resolved once; each call only indexes tuples.
    values = inputs + outputs
    graded = tuple(o for o in outputs if f"grad_{o}" in wants)
    saved = tuple(n for n in wants if n in values and is_tensor[n])
    consts = tuple(n for n in wants if n in values and not is_tensor[n])
    pool = tuple(f"grad_{o}" for o in graded) + saved + consts + ("needs",)
    if unknown := set(wants) - set(pool):
        raise ValueError(f"{name}: backward takes {sorted(unknown)}, which are no grad_<output>, input or output")
    if unknown := {g for g in gives if g.removeprefix("grad_") not in inputs}:
        raise ValueError(f"{name}: backward returns {sorted(unknown)}, which are no grad_<input>")
    graded_slots = tuple(outputs.index(o) for o in graded)
    plain_slots = tuple(i for i, o in enumerate(outputs) if o not in graded)
    saved_slots, const_slots = (tuple(values.index(n) for n in group) for group in (saved, consts))
    order = tuple(pool.index(n) for n in wants)
    input_slots = tuple(inputs.index(g.removeprefix("grad_")) for g in gives)
    flag_slot = inputs.index(f"overwrite_{over.argument}") if over else None

    @once_differentiable
    def differentiate(ctx, *grads):
        needs = [ctx.needs_input_grad[i] for i in input_slots]
        if all(grads[i] is None for i in graded_slots):
            return (None,) * len(inputs)
        # Once: non-reentrant checkpointing recomputes them at the first look and refuses a second.
        saved_tensors = ctx.saved_tensors
        grads = tuple(
            saved_tensors[0].new_zeros(shape, dtype=dtype) if grads[i] is None else grads[i].contiguous()
            for i, (shape, dtype) in zip(graded_slots, ctx.graded, strict=True)
        )
        have = grads + saved_tensors + ctx.consts + (needs,)
        out = [None] * len(inputs)
        run = over if ctx.overwrites else bwd
        results = _as_tuple(run(*[have[i] for i in order]))
        for slot, need, result in zip(input_slots, needs, results, strict=True):
            out[slot] = result if need else None
        return tuple(out)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            results = _as_tuple(fwd(*args))
            both = args + results
            ctx.save_for_backward(*[both[i] for i in saved_slots])
            ctx.consts = tuple(both[i] for i in const_slots)
            ctx.graded = tuple((results[i].shape, results[i].dtype) for i in graded_slots)
            ctx.overwrites = flag_slot is not None and args[flag_slot]
            # Else backward starts by filling zeros as large as the saved outputs, for gradients that nobody reads.
            ctx.set_materialize_grads(False)
            if plain_slots:
                ctx.mark_non_differentiable(*[results[i] for i in plain_slots])
            return results

        @staticmethod
        def backward(ctx, *grads):
            # once_differentiable raises only for an upstream gradient that itself requires one, which that of a plain
            # loss does not: without this a gradient penalty would be dropped without a word.
            if torch.is_grad_enabled():
                grads = tuple(g if g is None or g.requires_grad else g.detach().requires_grad_() for g in grads)
            return differentiate(ctx, *grads)

    return Function, input_slots


@dataclasses.dataclass(frozen=True)
class _Overwriting:
    """The backward that writes over one of its arguments, called like the one that does not."""

    argument: str
    slot: int
    op: Any

    def __call__(self, *args: Any) -> Tensor:
        target = args[self.slot]
        self.op(*args)
        # The op is no autograd kernel: without this a second backward would read a gradient where logits were.
        torch.autograd.graph.increment_version(target)
        return target.detach()


def _register_overwriting(name: str, backward: str, argument: str, table: tuple[Backend, ...]) -> _Overwriting:
    schema = backward.replace(f"Tensor {argument},", f"Tensor(a!) {argument},").rpartition("->")[0] + "-> ()"
    op = _register(
        f"{name}_bwd_overwrite", schema, lambda *args: None, table, "backward_overwriting", None,
        extra={f"overwrite_{argument}": True},
    )  # fmt: skip
    return _Overwriting(argument, _names(op._schema.arguments).index(argument), op)


def _register(
    name: str,
    schema: str,
    fake: Callable[..., Any],
    backends: tuple[Backend, ...],
    direction: str,
    check_values: Callable[[Mapping[str, Any]], None] | None,
    extra: Mapping[str, Any] | None = None,
) -> Any:
    """Define and implement one op; backends that are asked to refuse see ``extra`` beside the arguments."""
    _LIBRARY.define(name + schema)
    overload = getattr(torch.ops.lisa, name).default
    names = _names(overload._schema.arguments)

    def body(*args: Any) -> Any:
        named = dict(zip(names, args, strict=True)) | (extra or {})
        device = next(a.device.type for a in args if isinstance(a, Tensor))
        if check_values is not None and device == "cpu":
            check_values(named)
        run = getattr(choose(backends, named).module, direction)
        if not torch.is_autocast_enabled(device):
            return run(*args)
        # Else a matmul inside the reference would be cast, against the fake.
        with torch.autocast(device, enabled=False):
            return run(*args)

    _LIBRARY.impl(name, body, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lisa::{name}", fake, lib=_LIBRARY)
    return overload


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _names(items: Any) -> tuple[str, ...]:
    return tuple(item.name for item in items)
