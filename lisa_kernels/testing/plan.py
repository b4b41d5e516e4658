"""Which judgements a verification makes: ops x backends x cases x dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch

from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.testing.engines import DEFAULT_TARGETS, MEANS, Engine, find_engines
from lisa_kernels.testing.judge import judge_bad_input, judge_case, refusal
from lisa_kernels.testing.rows import SKIPPED, Row
from lisa_kernels.testing.subject import cpu_threads

# Every eighth edge: spread over the list, where neighbours are alike.
_QUICK_EDGES = slice(None, None, 8)


@dataclasses.dataclass(frozen=True)
class Job:
    """One case in one dtype; ``behaviour`` as in ``judge_case``."""

    case: Case
    dtype: torch.dtype
    behaviour: bool


def plan(spec: OpSpec, level: str) -> Iterator[Job]:
    """Yield the jobs of one op.

    Args:
        level: ``"quick"`` is small cases in the first dtype and a few edges; ``"default"`` all cases and edges in all
            dtypes; ``"full"`` adds the large cases.  Behaviour is checked for every small case, for edges in the first
            dtype, and for no large case: it takes ten calls and does not depend on the size.
    """
    first = spec.dtypes[:1]
    for case in spec.cases:
        for dtype in first if level == "quick" else spec.dtypes:
            yield Job(case, dtype, behaviour=True)
    for case in spec.edges[_QUICK_EDGES] if level == "quick" else spec.edges:
        for dtype in first if level == "quick" else spec.dtypes:
            yield Job(case, dtype, behaviour=level != "quick" and dtype in first)
    for case in spec.full if level == "full" else ():
        for dtype in spec.dtypes:
            yield Job(case, dtype, behaviour=False)


def plan_means(spec: OpSpec, level: str) -> Iterator[Job]:
    """Yield the jobs of one op for the means that need no GPU: cases small enough to interpret or emulate.

    Args:
        level: ``"quick"`` is small cases and a few edges in the first dtype; ``"default"`` small cases in all dtypes
            and all edges in the first; ``"full"`` all of both.
    """
    first = spec.dtypes[:1]
    for case in spec.cases:
        for dtype in first if level == "quick" else spec.dtypes:
            yield Job(case, dtype, behaviour=level != "quick" or case is spec.cases[0])
    for case in spec.edges[_QUICK_EDGES] if level == "quick" else spec.edges:
        for dtype in spec.dtypes if level == "full" else first:
            yield Job(case, dtype, behaviour=level == "full" and dtype in first)


def unavailable(spec: OpSpec, backend: str | Engine, device: torch.device) -> str | None:
    """Return why a backend or engine cannot run an op's first case on a device, or None where it can."""
    return refusal(spec, backend, device=device, dtype=spec.dtypes[0], case=spec.cases[0])


def verify_op(
    spec: OpSpec,
    *,
    device: torch.device,
    backend: str | None,
    level: str,
    targets: tuple[str, ...] = DEFAULT_TARGETS,
) -> Iterator[Row]:
    """Yield every judgement of one op.

    Args:
        backend: One backend or one of the means, or None for all backends: those that cannot run are one skipped row
            each.
        level: As in ``plan`` and ``plan_means``.
        targets: GPUs whose code ``emulated`` runs.
    """
    # Other programs on the cores make threads that wait for each other ten times slower: a quick look uses one.
    quick = level == "quick"
    threads = (1, 2) if quick else (1, 2, 3, 4)
    for engine in (engine for name in ([backend] if backend else BACKENDS) for engine in find_engines(name, targets)):
        if (reason := unavailable(spec, engine, device)) is not None:
            yield Row(spec.name, "", engine.name, "", "run", SKIPPED, message=reason)
            continue
        jobs = (plan_means if backend in MEANS else plan)(spec, level)
        for job in jobs:
            with cpu_threads(1 if quick else torch.get_num_threads()):
                rows = judge_case(
                    spec, job.case, job.dtype, device=device, backend=engine, behaviour=job.behaviour, threads=threads
                )
            yield from rows
        for bad in spec.bad_inputs:
            yield judge_bad_input(spec, bad, device=device, backend=engine)
