"""Interleaved timing: providers take turns inside one process, so that drift of the machine meets all of them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.providers import MODES, Provider

# A provider that needs longer for all its rounds gets fewer; its rows say how many.
_BUDGET_MS = 6000.0
_FEWEST_ROUNDS = 5
_WARM_UPS = 2

# Larger than any L2 cache, so that no provider finds its inputs there.
_FLUSH_BYTES = 256 * 2**20
# About 1 ms: the host queues the whole step behind it, else its gaps would be timed.
_QUEUE_CYCLES = 2_000_000


@dataclasses.dataclass(frozen=True)
class Stats:
    """Times of one provider in one mode, in milliseconds."""

    median_ms: float
    min_ms: float
    p20_ms: float
    p80_ms: float
    rounds: int


class HostClock:
    """Times a provider by a host clock: ``time.perf_counter``, or ``time.thread_time`` for one thread's CPU time."""

    def __init__(self, read: Callable[[], float], name: str) -> None:
        self._read = read
        self.name = name

    def laps(self, provider: Provider) -> dict[str, float]:
        """Run forward and backward once and return the milliseconds of each of the provider's modes."""
        with provider.around():
            before = self._read()
            prepared = provider.prepare()
            start = self._read()
            result = provider.forward()
            middle = self._read()
            gradients = provider.backward(result)
            end = self._read()
        # Freed after the last reading of the clock.
        del prepared, result, gradients
        return _by_mode(provider, start - before, middle - start, end - middle, 1000.0)


class CudaClock:
    """Times a provider by CUDA events, with a cold L2 cache and the step queued.  Not yet run on a GPU.

    Args:
        cuda: ``torch.cuda``, or what stands in for it in tests.
    """

    name = "cuda events"

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=device)
        self._cuda = cuda

    def laps(self, provider: Provider) -> dict[str, float]:
        """Run forward and backward once and return the milliseconds of each of the provider's modes."""
        before, start, middle, end = (self._cuda.Event(enable_timing=True) for _ in range(4))
        self._flush.zero_()
        self._cuda._sleep(_QUEUE_CYCLES)
        with provider.around():
            before.record()
            prepared = provider.prepare()
            start.record()
            result = provider.forward()
            middle.record()
            gradients = provider.backward(result)
            end.record()
        self._cuda.synchronize()
        del prepared, result, gradients
        times = before.elapsed_time(start), start.elapsed_time(middle), middle.elapsed_time(end)
        return _by_mode(provider, *times, 1.0)


def make_clock(device: torch.device, *, one_thread: bool) -> HostClock | CudaClock:
    """Return the clock for a device; ``one_thread`` reads the CPU time of the calling thread.

    Raises:
        ValueError: ``one_thread`` on a device other than the CPU.
    """
    if device.type == "cuda":
        if one_thread:
            raise ValueError(f"bench: --one-thread came with --device {device}; it takes the CPU alone.")
        return CudaClock(device)
    if one_thread:
        return HostClock(time.thread_time, "cpu time of one thread")
    return HostClock(time.perf_counter, "wall")


def interleave(
    providers: Sequence[Provider], laps: Callable[[Provider], dict[str, float]], *, rounds: int
) -> list[dict[str, Stats]]:
    """Let providers take turns and return the statistics of each, by mode.

    Args:
        laps: Runs a provider once and returns milliseconds by mode; a clock's ``laps``.
        rounds: Turns of each provider; a slow one gets fewer, at least 5, spread over the whole run.
    """
    counts = [min(rounds, _affordable(_warm_up(provider, laps))) for provider in providers]
    samples: list[list[dict[str, float]]] = [[] for _ in providers]
    for turn in range(rounds):
        # Forwards and backwards alternately: nobody always follows the same neighbour and inherits its cache.
        order = range(len(providers)) if turn % 2 == 0 else reversed(range(len(providers)))
        for place in order:
            if takes_turn(turn, counts[place], rounds):
                samples[place].append(laps(providers[place]))
    return [
        {mode: summarise([sample[mode] for sample in taken]) for mode in provider.modes}
        for provider, taken in zip(providers, samples, strict=True)
    ]


def takes_turn(turn: int, count: int, rounds: int) -> bool:
    """Whether a provider with ``count`` turns out of ``rounds`` has one now; they are spread evenly."""
    return (turn + 1) * count // rounds > turn * count // rounds


def summarise(times_ms: Sequence[float]) -> Stats:
    """Return median, minimum and the 20th and 80th percentile (linear between neighbours)."""
    ordered = sorted(times_ms)
    return Stats(_quantile(ordered, 0.5), ordered[0], _quantile(ordered, 0.2), _quantile(ordered, 0.8), len(ordered))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _warm_up(provider: Provider, laps: Callable[[Provider], dict[str, float]]) -> float:
    for _ in range(_WARM_UPS):
        last = laps(provider)
    return max(last.values())


def _affordable(step_ms: float) -> int:
    return max(_FEWEST_ROUNDS, int(_BUDGET_MS / step_ms)) if step_ms > 0 else 2**31


def _by_mode(provider: Provider, prepare: float, forward: float, backward: float, factor: float) -> dict[str, float]:
    step = forward + backward
    every = (prepare, forward, backward, step, prepare + step, prepare / 24 + step)
    by_mode = dict(zip(MODES, every, strict=True))
    return {mode: by_mode[mode] * factor * provider.factor for mode in provider.modes}
