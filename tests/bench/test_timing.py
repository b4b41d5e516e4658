"""Statistics and turns of the benchmark, on a clock that the test moves: no real time is judged."""

from __future__ import annotations

import dataclasses
import itertools
import time

import pytest
import torch

from bench.providers import MODES
from bench.timing import CudaClock, HostClock, interleave, make_clock, summarise, takes_turn
from tests.bench.sample import make_provider


class FakeClock:
    """Stands still but for ``spend``."""

    def __init__(self):
        self.now = 0.0

    def spend(self, seconds):
        self.now += seconds

    def read(self):
        return self.now


def test_percentiles_lie_between_neighbours():
    stats = summarise([5.0, 1.0, 2.0, 4.0, 3.0, 60.0])
    assert (stats.median_ms, stats.min_ms, stats.p20_ms, stats.p80_ms) == (3.5, 1.0, 2.0, 5.0)
    assert stats.rounds == 6


def test_one_sample_is_every_percentile():
    stats = summarise([2.0])
    assert {stats.median_ms, stats.min_ms, stats.p20_ms, stats.p80_ms} == {2.0}


def test_backward_does_not_count_the_forward_before_it():
    clock = FakeClock()
    provider = make_provider("a", lambda: clock.spend(0.003), lambda result: clock.spend(0.005))
    laps = HostClock(clock.read, "fake").laps(provider)
    assert laps == pytest.approx({"fwd": 3.0, "bwd": 5.0, "fwd+bwd": 8.0})


def test_backward_gets_the_result_of_forward():
    seen = []
    HostClock(FakeClock().read, "fake").laps(make_provider("a", lambda: "graph", seen.append))
    assert seen == ["graph"]


def test_layers_share_what_is_prepared():
    clock = FakeClock()
    steps = make_provider("a", lambda: clock.spend(0.003), lambda result: clock.spend(0.005), modes=MODES)
    laps = HostClock(clock.read, "fake").laps(dataclasses.replace(steps, prepare=lambda: clock.spend(0.048)))
    whole = {"prepare": 48.0, "fwd": 3.0, "bwd": 5.0, "fwd+bwd": 8.0, "1 layer": 56.0, "24 layers": 10.0}
    assert laps == pytest.approx(whole)


def test_the_time_of_other_sizes_is_scaled_to_the_operations_of_the_case():
    clock = FakeClock()
    products = make_provider("a", backward=lambda result: clock.spend(0.004), modes=("fwd+bwd",))
    laps = HostClock(clock.read, "fake").laps(dataclasses.replace(products, factor=2.5))
    assert laps == pytest.approx({"fwd+bwd": 10.0})


def test_a_provider_is_timed_in_its_own_modes_only():
    stats = interleave([make_provider("reads", modes=("fwd",))], HostClock(FakeClock().read, "fake").laps, rounds=3)
    assert list(stats[0]) == ["fwd"]


def test_providers_take_turns():
    """All turns of one after all of another would give a drifting machine's change to one of them."""
    order = []
    providers = [make_provider(name, lambda name=name: order.append(name)) for name in "abc"]
    interleave(providers, HostClock(FakeClock().read, "fake").laps, rounds=4)
    timed = order[-12:]
    assert ["".join(timed[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "cba", "abc", "cba"]


def test_warm_ups_are_not_among_the_samples():
    clock, calls = FakeClock(), []

    def forward():
        calls.append(1)
        clock.spend(1.0 if len(calls) <= 2 else 0.001)

    stats = interleave([make_provider("a", forward)], HostClock(clock.read, "fake").laps, rounds=10)[0]["fwd"]
    assert stats.p80_ms == pytest.approx(1.0)
    assert stats.rounds < len(calls)


def test_a_slow_provider_gets_fewer_rounds_and_says_so():
    clock = FakeClock()
    providers = [make_provider("slow", lambda: clock.spend(1.0)), make_provider("quick", lambda: clock.spend(1e-3))]
    slow, quick = interleave(providers, HostClock(clock.read, "fake").laps, rounds=25)
    assert quick["fwd"].rounds == 25
    assert 5 <= slow["fwd"].rounds < 25


@pytest.mark.parametrize(("count", "rounds"), [(1, 25), (5, 25), (6, 25), (7, 7), (24, 25)])
def test_turns_add_up_to_the_count_and_are_spread(count, rounds):
    turns = [turn for turn in range(rounds) if takes_turn(turn, count, rounds)]
    assert len(turns) == count
    gaps = [b - a for a, b in itertools.pairwise(turns)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_one_thread_reads_cpu_time_not_the_wall(monkeypatch):
    monkeypatch.setattr(time, "thread_time", lambda: 7.0)
    clock = make_clock(torch.device("cpu"), one_thread=True)
    assert clock.name == "cpu time of one thread"
    assert clock.laps(make_provider("a", lambda: time.sleep(0.01)))["fwd"] == 0.0


def test_one_thread_is_refused_on_a_gpu():
    with pytest.raises(ValueError, match="--one-thread came with --device cuda"):
        make_clock(torch.device("cuda"), one_thread=True)


class StandInCuda:
    """Notes what a clock asks of the device; events are numbered in the order in which they are recorded."""

    def __init__(self):
        self.log = []
        self.recorded = 0

    def Event(self, enable_timing):  # noqa: N802
        assert enable_timing
        return StandInEvent(self)

    def _sleep(self, cycles):
        self.log.append("queue")

    def synchronize(self):
        self.log.append("wait")


class StandInEvent:
    def __init__(self, cuda):
        self.cuda = cuda

    def record(self):
        self.cuda.log.append("event")
        self.cuda.recorded += 1
        self.at = self.cuda.recorded

    def elapsed_time(self, later):
        self.cuda.log.append("read")
        return float((later.at - self.at) * self.at)


@pytest.fixture
def cuda_clock():
    cuda = StandInCuda()
    return CudaClock(torch.device("cpu"), cuda), cuda


def test_events_enclose_forward_and_backward_and_are_read_after_the_device_is_done(cuda_clock):
    clock, cuda = cuda_clock
    provider = make_provider("a", lambda: cuda.log.append("forward"), lambda result: cuda.log.append("backward"))
    laps = clock.laps(provider)
    calls = ["event", "event", "forward", "event", "backward", "event"]
    assert cuda.log == ["queue", *calls, "wait", "read", "read", "read"]
    assert laps == {"fwd": 2.0, "bwd": 3.0, "fwd+bwd": 5.0}


def test_the_cache_is_flushed_before_the_first_event_of_every_lap(cuda_clock):
    """Else the second provider finds its inputs where the first left them."""
    clock, cuda = cuda_clock
    flushed = []
    cuda._sleep = lambda cycles: flushed.append(not clock._flush[::4096].any())
    for _ in range(2):
        clock._flush.fill_(1)
        clock.laps(make_provider("a"))
    assert flushed == [True, True]
    assert clock._flush.nbytes >= 2 * 126 * 2**20, "twice the largest L2 there is, 126 MB on a B200"
