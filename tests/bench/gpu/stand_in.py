"""A stand-in for a machine with a GPU: it replays what tools would print.  Every figure in it is made up."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from bench.gpu.readers import SMI_FIELDS
from bench.gpu.tools import Finished
from tests.bench.sample import make_row

DEVICE = "Stand-in Device 9000"
PROBE = {
    "gpu": True, "torch": "2.13.0+cu130", "cuda": "13.0", "hip": None, "triton": "3.9.0", "python": "3.11.7",
    "commit": "abc1234", "native": {"cuda": True, "compiler": "g++"}, "native_why_not": None, "name": DEVICE,
    "arch": "sm_90", "memory_mib": 81559, "multiprocessors": 132, "uuid": "12ab", "count": 1, "driver": "580.1",
    "specimens": ["matmul"], "specimens_why_not": None,
    "ops": {
        "ctc_loss": {"cuda": None, "triton": "ctc_loss has no triton kernels", "reference": None},
        "route": {"cuda": "route has no cuda kernels", "triton": None, "reference": None},
    },
}  # fmt: skip
PROGRAMS = {name: f"/opt/{name}" for name in ("nvidia-smi", "nvcc", "compute-sanitizer", "ncu", "rocm-smi")}
SMI = f"{DEVICE}, 580.1, 81559 MiB, 3 MiB, 0 %, 210 MHz, 1980 MHz, 2619 MHz, 2619 MHz, 700 W, Enabled, Disabled"
PYTEST = """\
tests/gpu/test_device.py::test_values[ctc-cuda-float32] PASSED                    [ 50%]
tests/gpu/test_device.py::test_values[route-cuda-float32] SKIPPED (route has no cuda kernels) [100%]
================ 1 passed, 1 skipped in 3.21s ================
"""
SANITIZED = "========= COMPUTE-SANITIZER\n12 runs of 3 subjects\n========= ERROR SUMMARY: 0 errors\n"
RACE_FREE = "========= COMPUTE-SANITIZER\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
NCU = """\
==PROF== Connected to process 42
==PROF== Profiling "ctc_fwd_kernel" - 0: 0%....50%....100% - 8 passes
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","42","ctc_fwd_kernel","GPU Speed Of Light Throughput","Duration","us","12,345.6"
"0","42","ctc_fwd_kernel","GPU Speed Of Light Throughput","DRAM Throughput","%","71.2"
"0","42","ctc_fwd_kernel","Launch Statistics","Registers Per Thread","register/thread","64"
"""

Reply = Callable[[Sequence[str]], Finished]


@dataclasses.dataclass
class StandIn:
    """Replays outputs; a test changes ``probe``, ``programs`` or the reply to commands that hold a word.

    Attributes:
        replies: ``(word of the command, reply)``; the first that fits answers.
        ran: Every command that was run.
        slow: ``(word of the command, seconds)`` on the stand-in's own clock; 2 for all others.
    """

    probe: dict[str, Any] = dataclasses.field(default_factory=lambda: json.loads(json.dumps(PROBE)))
    programs: dict[str, str] = dataclasses.field(default_factory=lambda: dict(PROGRAMS))
    replies: list[tuple[str, Reply]] = dataclasses.field(default_factory=list)
    slow: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    date: str = "2031-05-06"
    ran: list[str] = dataclasses.field(default_factory=list)
    now: float = 0.0

    def find(self, name: str) -> str | None:
        return self.programs.get(name)

    def run(self, command: Sequence[str], *, limit_s: float, log: pathlib.Path | None = None) -> Finished:
        text = " ".join(command)
        self.ran.append(text)
        reply = next(reply for word, reply in [*self.replies, *_usual(self)] if word in text)
        seconds = next((seconds for word, seconds in self.slow if word in text), 2.0)
        finished = dataclasses.replace(reply(command), seconds=seconds)
        if seconds > limit_s:
            finished = dataclasses.replace(finished, status=-9, seconds=limit_s, timed_out=True)
        self.now += finished.seconds
        if log:
            log.write_text(finished.output)
        return finished

    def today(self) -> str:
        return self.date

    def clock(self) -> float:
        return self.now

    def ran_with(self, word: str) -> list[str]:
        """Return the commands that hold a word."""
        return [command for command in self.ran if word in command]


def says(output: str, status: int = 0) -> Reply:
    """Return a reply that only prints."""
    return lambda command: Finished(status, output, 0.0)


def writes(content: Any, output: str = "", status: int = 0) -> Reply:
    """Return a reply that writes JSON to the file after ``--json``."""

    def reply(command: Sequence[str]) -> Finished:
        pathlib.Path(command[list(command).index("--json") + 1]).write_text(json.dumps(content))
        return Finished(status, output, 0.0)

    return reply


def verified(op: str, backend: str, *, failed: int = 0) -> dict[str, Any]:
    """Return the record that ``verify --json`` writes: two dtypes, three checks each."""
    rows = [
        {"op": op, "case": "odd", "backend": backend, "dtype": dtype, "check": f"check {i}", "status": "passed",
         "error": 1e-7, "bound": 1e-6, "source": "", "message": ""}
        for dtype in ("float32", "bfloat16")
        for i in range(3)
    ]  # fmt: skip
    for row in rows[:failed]:
        row |= {"status": "failed", "message": "grad_logits[0, 1]: got 3, expected 4."}
    return {"passed": len(rows) - failed, "failed": failed, "skipped": 0, "rows": rows}


def timed(op: str, **changes: Any) -> list[dict[str, Any]]:
    """Return made-up rows of ``bench run`` for ours, a peer, and a peer that is not installed."""
    head = {"op": op, "device": "cuda", "clock": "cuda events", "machine": DEVICE} | changes
    rows = [
        make_row("lisa cuda", median_ms=2.0, ours=True, **head),
        make_row("torch peer", median_ms=5.0, ratio_median=2.5, **head),
        make_row("absent peer", status="unavailable", reason="not installed", median_ms=None, **head),
    ]
    return [dataclasses.asdict(row) for row in rows]


def _verify(command: Sequence[str]) -> Finished:
    words = list(command)
    op, backend = words[words.index("lisa_kernels.verify") + 1], words[words.index("--backend") + 1]
    return writes(verified(op, backend))(command)


def _bench(command: Sequence[str]) -> Finished:
    return writes(timed(list(command)[list(command).index("run") + 1]))(command)


def _usual(machine: StandIn) -> list[tuple[str, Reply]]:
    judged = {
        "specimen": "matmul",
        "output": "out_ptr",
        "status": "passed",
        "error": 1e-3,
        "bound": 4e-3,
        "message": "",
    }
    return [
        ("bench.gpu.probe", says(json.dumps(machine.probe) + "\n")),
        ("git diff", says("")),
        ("nvcc --version", says("Cuda compilation tools, release 13.0, V13.0.88\n")),
        (SMI_FIELDS[-1], says(SMI + "\n")),
        ("-m pytest", says(PYTEST)),
        ("lisa_kernels.verify", _verify),
        ("bench.gpu.specimens", writes([judged | {"emulator": "compared", "max_ulp": 1, "equal": 0.9931}])),
        ("racecheck", says(RACE_FREE)),
        ("--tool", says(SANITIZED)),
        ("/opt/ncu", says(NCU)),
        ("--profile", writes([{"profiler": "torch", "kernel": "k", "launches": 2, "device_us": 7.0}])),
        ("bench.gpu.drive", writes([{"subject": "ctc_loss:cuda", "status": "ran"}])),
        ("-m bench run", _bench),
    ]
