"""``python -m bench overhead``: what one call costs at a size so small that only the call is left."""

from __future__ import annotations

import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import torch

from bench import machine
from bench.providers import LIMITS, Provider, build, make_case_inputs, provider_names
from bench.timing import summarise
from lisa_kernels.core import registry
from lisa_kernels.core.spec import Case, OpSpec

# A turn of 20 calls takes about a millisecond: far above the clock's own cost.
_CALLS, _TURNS = 20, 40


def _without_gradient(provider: Provider) -> None:
    with torch.no_grad():
        for _ in range(_CALLS):
            provider.forward()


def _with_gradient(provider: Provider) -> None:
    for _ in range(_CALLS):
        provider.forward()


def _with_backward(provider: Provider) -> None:
    for _ in range(_CALLS):
        provider.backward(provider.forward())


WAYS: dict[str, Callable[[Provider], None]] = {
    "no gradient": _without_gradient,
    "with gradient": _with_gradient,
    "with backward": _with_backward,
}


def run(ops: tuple[str, ...], *, json_path: pathlib.Path | None = None, turns: int = _TURNS) -> int:
    """Print the cost of one call of each op and its peers in microseconds of one thread; return the exit code, 0.

    Raises:
        ValueError: An op that does not exist.
    """
    specs = registry.select(ops)
    print(machine.describe_load())
    rows = []
    for spec in specs:
        found = measure(spec, turns)
        print(f"\n{spec.name} at {found[0]['sizes']}, microseconds a call")
        print(f"  {'provider':41}" + "".join(f"{way:>16}" for way in WAYS))
        for row in found:
            print(f"  {row['provider']:41}" + "".join(f"{row['median_us'][way]:16.1f}" for way in WAYS))
        rows += found
    print(f"\nmedian of {turns} turns of {_CALLS} calls, CPU time of one thread, providers take turns")
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def measure(spec: OpSpec, turns: int) -> list[dict[str, Any]]:
    """Return the cost of one call of each provider that runs, in microseconds, for each of ``WAYS``."""
    device, case = torch.device("cpu"), _smallest(spec)
    kwargs = make_case_inputs(spec, case, torch.float32, device)
    names = [name for name in provider_names(spec, device) if name not in LIMITS]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        providers, _ = build(spec, case, kwargs, names=names, quick=True)
        samples: dict[tuple[str, str], list[float]] = {(p.name, way): [] for p in providers for way in WAYS}
        for _ in range(turns):
            for provider in providers:
                for way in WAYS:
                    samples[provider.name, way].append(_microseconds_a_call(provider, way))
    finally:
        torch.set_num_threads(threads)
    commit = machine.find_commit()
    return [
        {
            "op": spec.name,
            "case": case.name,
            "sizes": dict(case.sizes),
            "provider": provider.name,
            "median_us": {way: summarise(samples[provider.name, way]).median_ms for way in WAYS},
            "min_us": {way: min(samples[provider.name, way]) for way in WAYS},
            "commit": commit,
        }
        for provider in providers
    ]


def _microseconds_a_call(provider: Provider, way: str) -> float:
    with provider.around():
        start = time.thread_time()
        WAYS[way](provider)
        return (time.thread_time() - start) / _CALLS * 1e6


def _smallest(spec: OpSpec) -> Case:
    return min(spec.cases, key=lambda case: math.prod(case.sizes.values()))
