"""What must hold beside the values: same bits every time, inputs left alone, no memory but the op's own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lisa_kernels.testing.engines import Engine
from lisa_kernels.testing.guarded import guard_inputs, poisoned_allocations
from lisa_kernels.testing.inputs import clone_inputs, make_inputs, require_grad
from lisa_kernels.testing.subject import Result, Subject, cpu_threads

# Each returns what is wrong in one sentence, or an empty text.
Behaviour = Callable[[Subject, Result], str]


def repeats(subject: Subject, first: Result) -> str:
    """A second call gives the same bits."""
    name = subject.run().differs_from(first)
    return name and f"{name}: a second call with equal inputs gave other bits."


def keeps_calls_apart(subject: Subject, first: Result) -> str:
    """Another call between forward and backward changes nothing: what is saved belongs to its call."""
    others = make_inputs(subject.spec, subject.case, subject.dtype, subject.device, seed=1)
    name = subject.run(between=lambda: subject.run(others)).differs_from(first)
    return name and f"{name}: another call between forward and backward gave other bits."


def ignores_threads(subject: Subject, first: Result) -> str:
    """The number of CPU threads does not change a bit."""
    if subject.device.type != "cpu":
        return ""
    for count in subject.threads:
        with cpu_threads(count):
            name = subject.run().differs_from(first)
        if name:
            return f"{name}: {count} threads gave other bits than {torch.get_num_threads()}."
    return ""


def forward_alone_agrees(subject: Subject, first: Result) -> str:
    """Without gradients the outputs have the same bits, whether by no_grad or by frozen inputs, and carry no graph."""
    plain = Result(first.outputs, {})
    frozen = subject.forward(clone_inputs(subject.inputs))
    if tracked := [name for name, output in frozen.items() if output.requires_grad]:
        return f"{tracked[0]}: requires a gradient though no input does."
    with torch.no_grad():
        quiet = subject.forward(require_grad(clone_inputs(subject.inputs), subject.spec.differentiable))
    for outputs, how in ((frozen, "frozen inputs"), (quiet, "torch.no_grad")):
        if name := Result(outputs, {}).differs_from(plain):
            return f"{name}: a call with {how} gave other bits than a call with gradients."
    return ""


def frozen_inputs_agree(subject: Subject, first: Result) -> str:
    """The gradient of one input does not depend on whether the others are frozen."""
    names = subject.spec.differentiable
    if not first.grads or len(names) == 1:
        return ""
    for wanted in names:
        alone = subject.run(wanted=(wanted,))
        if name := Result({}, alone.grads).differs_from(Result({}, first.grads)):
            return f"{name}: has other bits when the other inputs are frozen."
    return ""


def keeps_strides(subject: Subject, first: Result) -> str:
    """A gradient is laid out like ``empty_like`` of its input: no copy when it is accumulated."""
    for argument in subject.spec.differentiable if first.grads else ():
        like, grad = torch.empty_like(subject.inputs[argument]), first.grads[f"grad_{argument}"]
        if grad.dtype != like.dtype:
            return f"grad_{argument}: is {grad.dtype}; expected {like.dtype}, as {argument}."
        pairs = zip(grad.shape, grad.stride(), like.stride(), strict=True)
        if grad.numel() and any(size > 1 and mine != expected for size, mine, expected in pairs):
            return f"grad_{argument}: strides are {grad.stride()}; expected {like.stride()}, as empty_like({argument})."
    return ""


def stays_inside_its_memory(subject: Subject, first: Result) -> str:
    """What lies around and between the inputs' elements changes nothing, and nothing is written there or to them."""
    results = []
    for poison in (False, True):
        kwargs, guards = guard_inputs(subject.inputs, poison=poison)
        results.append(subject.run(kwargs))
        if touched := [guard.name for guard in guards if not guard.untouched()]:
            return f"{touched[0]}: the call wrote to it, or to the memory around it."
    name = results[1].differs_from(results[0])
    return name and f"{name}: depends on memory around an input."


def writes_all_outputs(subject: Subject, first: Result) -> str:
    """Allocations filled with NaN change nothing: no element is left unwritten and none is read before."""
    with poisoned_allocations():
        poisoned = subject.run()
    name = poisoned.differs_from(first)
    return name and f"{name}: holds or uses an element that nothing wrote."


def ignores_order(subject: Subject, first: Result) -> str:
    """The order in which programs, blocks or threads run does not change a bit."""
    for seed in subject.engine.order_seeds:
        if name := subject.run(order_seed=seed).differs_from(first):
            return f"{name}: another order of execution (seed {seed}) gave other bits."
    return ""


BEHAVIOURS: dict[str, Behaviour] = {
    "same bits again": repeats,
    "calls kept apart": keeps_calls_apart,
    "same bits for any threads": ignores_threads,
    "same bits without gradient": forward_alone_agrees,
    "frozen inputs": frozen_inputs_agree,
    "strides of gradients": keeps_strides,
    "memory around inputs": stays_inside_its_memory,
    "outputs fully written": writes_all_outputs,
}
# What only the means without a GPU can choose; an engine names which of all behaviours concern it.
ORDER: dict[str, Behaviour] = {"same bits in any order": ignores_order}


def behaviours_of(engine: Engine) -> dict[str, Behaviour]:
    """Return the behaviours to judge on an engine, by name."""
    if engine.behaviours is None:
        return BEHAVIOURS
    return {name: (BEHAVIOURS | ORDER)[name] for name in engine.behaviours}
