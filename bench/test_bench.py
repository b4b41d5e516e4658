"""The cases of ``python -m bench run`` under pytest-benchmark: ``pytest bench --benchmark-only``.

For those who keep their history in its JSON files (``--benchmark-autosave``, ``--benchmark-compare``).  Providers do
not take turns here, so ratios of ``python -m bench run`` are the ones to quote.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

pytest.importorskip("pytest_benchmark", reason="needs pytest-benchmark: pip install -e '.[bench]'")

from bench import gate
from bench.providers import LIMITS, STEP, build, make_case_inputs, provider_names
from lisa_kernels.core import registry
from lisa_kernels.core.spec import Case, OpSpec

_CPU = torch.device("cpu")
_ROUNDS, _WARM_UPS = 10, 2

_JOBS = [
    pytest.param(spec, case, name, mode, id=f"{spec.name}-{case.name}-{name}-{mode}".replace(" ", "_"))
    for spec in registry.select()
    for case in spec.bench
    for name in provider_names(spec, _CPU)
    for mode in STEP
]


@functools.cache
def _failures(op: str, case: str, backend: str) -> str:
    """Return why a backend's verification of a case failed, or an empty text."""
    (spec,) = registry.select((op,))
    red = gate.verify(spec, next(c for c in spec.bench if c.name == case), torch.float32, _CPU, (backend,))
    return "; ".join(failure.reason for failure in red)


@pytest.mark.parametrize(("spec", "case", "name", "mode"), _JOBS)
def test_time(request: pytest.FixtureRequest, benchmark: Any, spec: OpSpec, case: Case, name: str, mode: str) -> None:
    if not request.config.getoption("benchmark_only"):
        pytest.skip("timings only with --benchmark-only")
    if name.startswith("lisa ") and (reason := _failures(spec.name, case.name, name.removeprefix("lisa "))):
        pytest.fail(f"{gate.RED}: {reason}")
    kwargs = make_case_inputs(spec, case, torch.float32, _CPU)
    found, absent = build(spec, case, kwargs, names=(name,), quick=True)
    if not found:
        pytest.skip(f"{absent[0].status}: {absent[0].reason}")
    (provider,) = found
    if mode not in provider.modes:
        pytest.skip(f"{name} has no {mode}")
    if provider.factor != 1:
        pytest.skip(f"{name} runs other sizes than the case's, for their rate")
    benchmark.group = f"{spec.name}, {case.name}, {mode}"
    benchmark.extra_info |= {"provider": name, "threads": torch.get_num_threads(), "sizes": dict(case.sizes)}

    def forward() -> tuple[tuple[Any], dict[str, Any]]:
        return (provider.forward(),), {}

    with provider.around():
        if mode == "bwd" and name not in LIMITS:
            benchmark.pedantic(provider.backward, setup=forward, rounds=_ROUNDS, warmup_rounds=_WARM_UPS)
        elif mode == "fwd":
            benchmark.pedantic(provider.forward, rounds=_ROUNDS, warmup_rounds=_WARM_UPS)
        else:
            benchmark.pedantic(lambda: provider.backward(provider.forward()), rounds=_ROUNDS, warmup_rounds=_WARM_UPS)
