"""Rows and providers made up for the tests of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.providers import Provider
from bench.rows import Row

_SIZES = {"T": 5, "N": 2, "C": 7, "S": 1}


def make_row(provider: str, **changes: Any) -> Row:
    """Return a timed row, changed where the test needs it."""
    figures = {"median_ms": 2.0, "min_ms": 1.5, "p20_ms": 1.8, "p80_ms": 2.5, "rounds": 7}
    ratios = {"ratio_median": 1.0, "ratio_min": 1.0, "limit_share": 0.5}
    memory = {"peak_mib": 3.0, "gradient_mib": 1.0}
    head = {"op": "ctc_loss", "case": "words", "dtype": "float32", "mode": "fwd+bwd", "threads": 2, "device": "cpu"}
    stamp = {"commit": "abc1234", "clock": "wall", "machine": "some <processor>", "torch": "2.13.0", "sizes": _SIZES}
    return Row(**{**head, **stamp, **figures, **ratios, **memory, "provider": provider, **changes})


def make_provider(
    name: str,
    forward: Callable[[], Any] = lambda: None,
    backward: Callable[[Any], Any] = lambda result: None,
    modes: tuple[str, ...] = ("fwd", "bwd", "fwd+bwd"),
    backend: str = "",
) -> Provider:
    """Return a provider that computes nothing unless told to."""
    return Provider(name, modes, forward, backward, backend)
