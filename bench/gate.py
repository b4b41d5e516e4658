"""No figure for wrong numbers: an op is judged on a smaller problem of the same kind before a case is timed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench import peers
from bench.providers import LIMITS, Absent, Provider
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.testing.judge import judge_case
from lisa_kernels.testing.rows import FAILED

RED = "not timed: verification failed"
DIFFERENT = "not timed: another result"

# Rounding in half precision stays below, a peer with another blank or other lengths does not.  Only asks whether both
# solve the same problem: precision is judged by ``verify``.
_SAME_PROBLEM = 0.03


def verify(spec: OpSpec, case: Case, dtype: torch.dtype, device: torch.device, backends: Sequence[str]) -> list[Absent]:
    """Judge values and gradients of each backend against the fp64 reference and return the failures.

    Args:
        backends: Names of our backends that are about to be timed.
    """
    small = peers.load(spec).cut_down(case)
    failures = []
    for backend in backends:
        rows = judge_case(spec, small, dtype, device=device, backend=backend, behaviour=False)
        if red := [row for row in rows if row.status == FAILED]:
            reason = "; ".join(f"{row.check}: {row.message}" for row in red)
            failures.append(Absent(f"lisa {backend}", RED, f"on {small.name!r} {dict(small.sizes)}: {reason}"))
    return failures


def split_different(providers: Sequence[Provider], ours: str | None) -> tuple[list[Provider], list[Absent]]:
    """Return providers whose result at full size is that of our backend ``ours``, and the others with the reason.

    A peer that is called with other arguments computes another loss; its time would be compared for nothing.
    """
    mine = [provider for provider in providers if provider.backend and provider.backend == ours]
    if not mine:
        return list(providers), []
    expected = _total(mine[0])
    same, different = [], []
    for provider in providers:
        if provider.name in LIMITS or (distance := _distance(expected, provider)) <= _SAME_PROBLEM:
            same.append(provider)
            continue
        reason = f"its result is {_total(provider):.6g}, that of {mine[0].name} {expected:.6g}: {distance:.1e} apart"
        different.append(Absent(provider.name, DIFFERENT, reason))
    return same, different


def _distance(expected: float, provider: Provider) -> float:
    return abs(_total(provider) - expected) / max(abs(expected), 1.0)


def _total(provider: Provider) -> float:
    with provider.around():
        return float(provider.forward().detach().double().sum())
