"""Judges an op by its spec: values, gradients, behaviour and bad input, one row for each check.

``python -m lisa_kernels.verify``, the contract tests and the gate of the benchmark all ask here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lisa_kernels.core.spec import BadInput, Case, OpSpec
from lisa_kernels.testing.behaviour import Behaviour, behaviours_of
from lisa_kernels.testing.compare import compare
from lisa_kernels.testing.engines import CaseTooLargeError, Engine, find_engines
from lisa_kernels.testing.inputs import make_inputs, to_fp64
from lisa_kernels.testing.rows import FAILED, PASSED, SKIPPED, Row
from lisa_kernels.testing.subject import Result, Subject, name_outputs

__all__ = ["Row", "judge_bad_input", "judge_case", "refusal"]


def refusal(
    spec: OpSpec, backend: str | Engine, *, device: torch.device | str = "cpu", dtype: torch.dtype, case: Case
) -> str | None:
    """Return why a backend or engine cannot run a case, or None where it can."""
    engine = _engine(backend)
    inputs = make_inputs(spec, case, dtype, device)
    # First of all: an engine may take a minute to build what the op does not have.
    if lacks_kernels(spec, engine):
        return f"{spec.name} has no {engine.backend} kernels"
    if (missing := engine.missing()) is not None:
        return missing
    with engine.within(None):
        verdict = dict(spec.explain(**inputs).rows)[engine.backend]
    return None if verdict == "runs" else verdict.removeprefix("refuses: ")


def lacks_kernels(spec: OpSpec, engine: Engine) -> bool:
    """Whether the op has no code of the engine's kind, on any machine."""
    explanation = spec.explain(**make_inputs(spec, spec.cases[0], spec.dtypes[0]))
    return engine.backend in explanation.without_kernels


def judge_case(
    spec: OpSpec,
    case: Case,
    dtype: torch.dtype,
    *,
    device: torch.device | str = "cpu",
    backend: str | Engine,
    behaviour: bool = True,
    threads: tuple[int, ...] = (1, 2, 3, 4),
) -> list[Row]:
    """Run one case on one backend and return a row for each check.

    Args:
        dtype: Of the differentiable arguments.
        backend: The backend to force, ``"cpu"``, one of ``engines.MEANS`` or an engine; where it refuses the case the
            one row is skipped with its reason.
        behaviour: Also check repeats, threads, strides and memory: about ten more calls.
        threads: CPU thread counts that must give the same bits.
    """
    engine = _engine(backend)
    head = (spec.name, case.name, engine.name, str(dtype).removeprefix("torch."))
    if (reason := refusal(spec, engine, device=device, dtype=dtype, case=case)) is not None:
        return [Row(*head, "run", SKIPPED, message=reason)]
    subject = Subject(spec, case, dtype, torch.device(device), engine, threads)
    try:
        result = subject.run()
    except CaseTooLargeError as reason:
        return [Row(*head, "run", SKIPPED, message=str(reason))]
    except Exception as error:
        return [Row(*head, "run", FAILED, message=_told(error))]
    rows = _judge_values(subject, result, head)
    if behaviour:
        rows += [_judge_behaviour(name, check, subject, result, head) for name, check in behaviours_of(engine).items()]
    return rows


def judge_bad_input(spec: OpSpec, bad: BadInput, *, device: torch.device | str = "cpu", backend: str | Engine) -> Row:
    """Return whether a bad call raises what the spec says; on a GPU a NaN result is loud enough.

    Values on a GPU cannot be looked at without waiting for it, so there the op marks its result instead.
    """
    device, case, dtype = torch.device(device), spec.cases[0], spec.dtypes[0]
    engine = _engine(backend)
    head = (spec.name, bad.name, engine.name, "", "bad input")
    try:
        with engine.within(None):
            outputs = name_outputs(spec.function(**bad.change(make_inputs(spec, case, dtype, device))))
    except Exception as error:
        text = str(error)
        if type(error) is bad.error and bad.message in text and text.startswith(f"{spec.name}: "):
            return Row(*head, PASSED, message=text)
        expected = f"{bad.error.__name__} that starts with '{spec.name}: ' and says '{bad.message}'"
        return Row(*head, FAILED, message=f"expected {expected}; got {_told(error)}")
    if device.type != "cpu" and any(output.isnan().any() for output in outputs.values()):
        return Row(*head, PASSED, message="NaN instead of an error: values are on the device")
    return Row(*head, FAILED, message=f"expected {bad.error.__name__} with '{bad.message}'; no error came")


def _judge_values(subject: Subject, result: Result, head: tuple[str, ...]) -> list[Row]:
    reference = subject.reference()
    expected = reference.outputs | reference.grads
    # The definition in fp32 shows what cancellation costs there: a small difference of large numbers keeps their error.
    coarse = subject.reference(torch.float32) if subject.dtype != torch.float64 else reference
    baselines = coarse.outputs | coarse.grads
    rows = []
    for name, tensor in (result.outputs | result.grads).items():
        found = compare(
            tensor,
            expected[name],
            depth=max(1, subject.spec.depth(subject.case)),
            half_roundings=subject.spec.half_roundings,
            baseline=baselines[name],
            limit=_promise(subject.spec, name, tensor.dtype),
            name=name,
        )
        status = PASSED if found.passed else FAILED
        rows.append(Row(*head, name, status, found.error, found.bound, found.source, found.message))
    if missing := expected.keys() - result.outputs.keys() - result.grads.keys():
        rows.append(Row(*head, min(missing), FAILED, message=f"{min(missing)}: the function does not return it."))
    rows.append(_checked("gradient of unread elements", lambda: _unread_gradients(subject, result, reference), head))
    return rows


def _promise(spec: OpSpec, name: str, dtype: torch.dtype) -> float | None:
    """Return the op's own limit; for half results that of fp32, in which they are computed, and their rounding."""
    limit = spec.limit(name, dtype)
    if limit is None and dtype.itemsize < 4 and (limit := spec.limit(name, torch.float32)) is not None:
        limit += torch.finfo(dtype).eps / 2 * (1 + limit)
    return limit


def _unread_gradients(subject: Subject, result: Result, reference: Result) -> str:
    """Rows of an input that the op does not read get a gradient of exactly 0.

    Unread are rows with a reference gradient of 0 that may hold other numbers without changing the reference's output.
    """
    for argument in subject.spec.differentiable if reference.grads else ():
        exact = reference.grads[f"grad_{argument}"]
        if exact.dim() == 0 or exact.numel() == 0:
            continue
        idle = (exact == 0).all(-1, keepdim=True)
        if not idle.any():
            continue
        if not _same_without(subject, argument, idle, reference):
            continue
        wrong = idle & (result.grads[f"grad_{argument}"] != 0)
        if wrong.any():
            place = ", ".join(map(str, wrong.nonzero()[0].tolist()))
            return f"grad_{argument}[{place}]: is not exactly 0 although the op does not read {argument} there."
    return ""


def _same_without(subject: Subject, argument: str, idle: Tensor, reference: Result) -> bool:
    """Whether the reference's outputs stay when the idle rows of an argument hold other numbers."""
    kwargs = to_fp64(subject.inputs)
    value = kwargs[argument]
    others = torch.flip(value, (-1,)).nan_to_num(0.0, 1.0, -1.0) + 1
    kwargs[argument] = torch.where(idle, others, value)
    changed = Result(name_outputs(subject.spec.reference(**kwargs)), {})
    return not changed.differs_from(Result(reference.outputs, {}))


def _judge_behaviour(name: str, check: Behaviour, subject: Subject, result: Result, head: tuple[str, ...]) -> Row:
    return _checked(name, lambda: check(subject, result), head)


def _engine(backend: str | Engine) -> Engine:
    return backend if isinstance(backend, Engine) else find_engines(backend)[0]


def _checked(name: str, check: Callable[[], str], head: tuple[str, ...]) -> Row:
    try:
        message = check()
    except Exception as error:
        message = _told(error)
    return Row(*head, name, FAILED if message else PASSED, message=message)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
