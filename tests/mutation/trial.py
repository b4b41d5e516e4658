"""One wrong kernel under one means: what caught it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from lisa_kernels.testing import compare, same_bits
from lisa_kernels.testing.mutation import Mutant
from tests.mutation.known_harmless import KNOWN_HARMLESS
from tests.specimens.specimens import Specimen

Outputs = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A right kernel, its mutants, and how a version of it is run.

    Attributes:
        kernel: Name of the specimen.
        means: What runs it: ``"PTX sm_80"``.
        mutants: Wrong versions.
        source: The right version's text.
        run: ``(text, problem, order seed or None) -> outputs``; raises one of ``faults``.
        expected: The outputs of each problem in fp64.
        depth: Roundings in sequence behind an output.
        orders: Seeds of orders of execution, tried where nothing else tells a mutant from the right kernel.
        faults: Exceptions that name what a kernel did wrong.
        why_harmless: Returns why a mutant computes the same on every problem, or an empty text.
    """

    kernel: str
    means: str
    mutants: Sequence[Mutant]
    source: str
    run: Callable[[str, int, int | None], Outputs]
    expected: Sequence[Outputs]
    depth: int
    orders: tuple[int, ...]
    faults: tuple[type[Exception], ...]
    why_harmless: Callable[[Mutant], str] = lambda mutant: ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Attributes:
        caught: The fault's kind; ``"values"`` for wrong results, ``"order"`` for results that depend on the order of
            execution; empty where nothing caught it.
        detail: The message of what caught it.
        harmless: Of one that nothing caught: why it computes the same; empty where no reason is known.
    """

    kernel: str
    means: str
    kind: str
    line: int
    change: str
    caught: str
    detail: str
    harmless: str = ""


def judge(subject: Subject, mutant: Mutant) -> Outcome:
    """Run a mutant and return what caught it."""
    caught, detail = _catch(subject, mutant.text)
    change = f"`{mutant.before}` → {f'`{mutant.after}`' if mutant.after else 'deleted'}"
    place = (subject.kernel, subject.means, mutant.line)
    harmless = "" if caught else subject.why_harmless(mutant) or KNOWN_HARMLESS.get(place, "")
    return Outcome(subject.kernel, subject.means, mutant.kind, mutant.line, change, caught, detail, harmless)


def check_right_kernel(subject: Subject) -> None:
    """Raise if the unchanged kernel is not found right: nothing would follow from its mutants."""
    caught, detail = _catch(subject, subject.source)
    if caught:
        raise AssertionError(f"{subject.kernel}, {subject.means}: the right kernel fails: {caught}: {detail}")


def expected_of(specimen: Specimen) -> list[Outputs]:
    """Return the outputs of each of a specimen's problems in fp64."""
    return [specimen.expected(specimen.make_args(0, problem)) for problem in range(len(specimen.problems))]


def _catch(subject: Subject, text: str) -> tuple[str, str]:
    for problem, expected in enumerate(subject.expected):
        usual = None
        for order in (None, *subject.orders):
            try:
                outputs = subject.run(text, problem, order)
            except subject.faults as fault:
                return _kind(fault), str(fault).splitlines()[0]
            if usual is None:
                usual = outputs
                if wrong := _wrong_values(outputs, expected, subject.depth):
                    return "values", wrong
            for name, tensor in outputs.items():
                if not same_bits(tensor, usual[name]):
                    return "order", f"{name}: other bits when run in the order of seed {order}"
    return "", ""


def _kind(error: Any) -> str:
    """Return the kind of the first fault that an exception tells of."""
    first = error.faults[0] if getattr(error, "faults", ()) else error
    return getattr(first, "kind", type(error).__name__)


def _wrong_values(outputs: Outputs, expected: Outputs, depth: int) -> str:
    for name, exact in expected.items():
        found = compare(outputs[name], exact, depth=depth, name=name)
        if not found.passed:
            return found.message
    return ""
