"""``python -m bench``, end to end at a tiny size."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import machine, overhead, peers
from bench import run as bench_run
from bench.__main__ import main
from bench.ops import ctc as ctc_peers
from bench.providers import COPY, READ
from bench.rows import TIMED, read_json, replace_text
from lisa_kernels.core import registry
from lisa_kernels.core.spec import Case

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiny(monkeypatch):
    """CTC with one bench case that takes a millisecond; threads are put back afterwards."""
    (spec,) = registry.select(("ctc_loss",))
    spec = dataclasses.replace(spec, bench=(Case("tiny", {"T": 12, "N": 2, "C": 9, "S": 3}, {}, "full_lengths"),))
    monkeypatch.setattr(registry, "select", lambda names=(): (spec,))
    monkeypatch.setattr(peers, "load", lambda spec: ctc_peers)
    monkeypatch.setattr(machine, "fix_allocator", lambda: "allocator: left alone")
    threads = torch.get_num_threads()
    yield spec
    torch.set_num_threads(threads)


def test_run_writes_a_row_for_every_provider_and_mode(tiny, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["run", "ctc", "--quick", "--case", "tiny", "--rounds", "3", "--json", str(out)]) == 0
    rows = read_json(out)
    ours = tiny.explain(**tiny.inputs(tiny.bench[0], torch.float32, torch.device("cpu"), torch.Generator())).chosen
    timed = {(row.provider, row.mode): row for row in rows if row.status == TIMED}
    for provider in (f"lisa {ours}", "torch log_softmax + ctc_loss", "torch ctc_loss alone"):
        for mode in ("fwd", "bwd", "fwd+bwd"):
            row = timed[provider, mode]
            mine, limit = timed[f"lisa {ours}", mode], timed[READ if mode == "fwd" else COPY, mode]
            assert row.ratio_median == pytest.approx(row.median_ms / mine.median_ms)
            assert row.ratio_min == pytest.approx(row.min_ms / mine.min_ms)
            assert row.limit_share == pytest.approx(limit.median_ms / row.median_ms)
            assert 0 < row.min_ms <= row.p20_ms <= row.median_ms <= row.p80_ms
            assert row.peak_mib > 0
            assert row.rounds == 3
    gradient = 12 * 2 * 9 * 4 / 2**20
    assert timed[f"lisa {ours}", "fwd+bwd"].gradient_mib == pytest.approx(gradient)
    absent = {row.provider: row for row in rows if row.status != TIMED}
    assert {"warp-ctc", "k2", "torchaudio", "torch.compile of the reference"} <= absent.keys() | {p for p, _ in timed}
    assert all(row.reason for row in absent.values())
    assert [row.provider for row in rows if row.ours] == [f"lisa {ours}"] * 3
    said = capsys.readouterr().out
    assert "allocator:" in said
    assert "load:" in said


def test_half_precision_is_timed_unless_quick_and_peers_without_it_say_so(tiny, tmp_path, monkeypatch):
    kept = {name: peer for name, peer in ctc_peers.PEERS["ctc_loss"].items() if not peer.slow_start}
    monkeypatch.setitem(ctc_peers.PEERS, "ctc_loss", kept)
    out = tmp_path / "out.json"
    assert main(["run", "--rounds", "1", "--json", str(out)]) == 0
    half = {row.provider: row for row in read_json(out) if row.dtype == "bfloat16" and row.mode == "fwd+bwd"}
    assert half["lisa reference"].status == TIMED
    assert "BFloat16" in half["torch log_softmax + ctc_loss"].reason


def test_a_run_that_is_killed_leaves_the_cases_it_timed(tiny, tmp_path, monkeypatch):
    spec = dataclasses.replace(tiny, bench=(*tiny.bench, dataclasses.replace(tiny.bench[0], name="killed")))
    monkeypatch.setattr(registry, "select", lambda names=(): (spec,))
    time_case = bench_run.time_case

    def time_or_die(spec, case, *others):
        if case.name == "killed":
            raise KeyboardInterrupt
        return time_case(spec, case, *others)

    monkeypatch.setattr(bench_run, "time_case", time_or_die)
    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        main(["run", "--quick", "--rounds", "1", "--json", str(out)])
    assert {row.case for row in read_json(out)} == {"tiny"}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "rows.json"
    replace_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "new \udc80")
    assert path.read_text() == "old"


def test_one_thread_uses_and_names_one(tiny, tmp_path):
    out = tmp_path / "out.json"
    assert main(["run", "--quick", "--one-thread", "--rounds", "1", "--json", str(out)]) == 0
    assert {(row.threads, row.clock) for row in read_json(out)} == {(1, "cpu time of one thread")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "huge"], "--case is 'huge'; it takes 'tiny'"),
        (["--device", "tpu"], "--device is 'tpu'; it takes cpu or cuda"),
        (["--rounds", "0"], "--rounds is 0; it takes 1 or more"),
        (["--one-thread", "--threads", "2"], "--threads is 2 beside --one-thread"),
    ],
)
def test_bad_arguments_are_named(tiny, capsys, arguments, message):
    assert main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_overhead_has_a_cost_for_every_way(tiny, tmp_path, capsys):
    found = overhead.measure(tiny, 2)
    assert {"lisa reference", "torch ctc_loss alone"} <= {row["provider"] for row in found}
    assert all(0 < row["min_us"][way] <= row["median_us"][way] for row in found for way in overhead.WAYS)
    assert main(["overhead", "--json", str(tmp_path / "overhead.json")]) == 0
    assert "microseconds a call" in capsys.readouterr().out


def test_busy_machine_is_warned_of(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.9, 9.0, 9.0))
    assert "WARNING" not in machine.describe_load()
    monkeypatch.setattr(os, "getloadavg", lambda: (2.1, 0.0, 0.0))
    assert "WARNING: the machine is busy" in machine.describe_load()


def test_module_runs_as_a_command_and_reports(tmp_path):
    """The whole way in its own process, allocator included, with the smallest real case."""
    rows, page = tmp_path / "rows.json", tmp_path / "page.html"
    command = [sys.executable, "-m", "bench", "run", "ctc", "--quick", "--rounds", "1", "--case", "short characters"]
    done = subprocess.run([*command, "--json", rows], cwd=_ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "allocator:" in done.stdout
    assert main(["report", "--json", str(rows), "--out", str(page)]) == 0
    assert "short characters" in page.read_text()
