"""What the output of each tool says.

``pytest -v`` and this repository's own JSON files; ``nvidia-smi --query-gpu``; the summaries of compute-sanitizer
(Compute Sanitizer user manual, "Command Line Options"); ``ncu --page details --csv`` (Nsight Compute CLI manual).
"""

from __future__ import annotations

import csv
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from bench.gpu.kit import GREEN, RED, SKIPPED, Reading
from bench.gpu.tools import Finished
from bench.rows import TIMED

SMI_FIELDS = (
    "name", "driver_version", "memory.total", "memory.used", "utilization.gpu", "clocks.sm", "clocks.max.sm",
    "clocks.mem", "clocks.max.mem", "power.limit", "ecc.mode.current", "mig.mode.current",
)  # fmt: skip
NCU_METRICS = (
    "Duration", "Compute (SM) Throughput", "Memory Throughput", "DRAM Throughput", "L2 Cache Throughput",
    "L2 Hit Rate", "Registers Per Thread", "Achieved Occupancy",
)  # fmt: skip
_TEST = re.compile(r"^(tests/\S+?::\S+) (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)(?: \((.*)\))?\s*(?:\[ *\d+%\])?$")
_SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+) (?:errors?|hazards?)", re.MULTILINE)
_DENIED = "ERR_NVGPUCTRPERM"
# A desktop's own use of the card; more is somebody's work.
_BUSY_MIB, _BUSY_PERCENT = 1024, 10


def read_smi(finished: Finished) -> Reading:
    """Return the device's settings as found; busy with others' work is said, not judged."""
    values = [value.strip() for value in finished.output.strip().split(",")]
    if finished.status or len(values) != len(SMI_FIELDS):
        return Reading(SKIPPED, (f"nvidia-smi could not say: {last_line(finished.output)}",))
    found = dict(zip(SMI_FIELDS, values, strict=True))
    notes = [", ".join(f"{name} {value}" for name, value in found.items())]
    if _number(found["memory.used"]) > _BUSY_MIB or _number(found["utilization.gpu"]) > _BUSY_PERCENT:
        notes.append("WARNING: others use this GPU, timings are unsure")
    return Reading(GREEN, tuple(notes), (found,))


def read_pytest(finished: Finished) -> Reading:
    """Return one row for each test; also of a session that was killed."""
    matches = [_TEST.match(line.strip()) for line in finished.output.splitlines()]
    rows = [{"test": found[1], "outcome": found[2].lower(), "reason": found[3] or ""} for found in matches if found]
    for row in rows:
        if row["outcome"] in ("failed", "error"):
            told = re.search(rf"^(?:FAILED|ERROR) {re.escape(row['test'])} - (.*)$", finished.output, re.MULTILINE)
            row["reason"] = told[1] if told else ""
    bad = [row for row in rows if row["outcome"] in ("failed", "error")]
    notes = [", ".join(f"{count} {name}" for name, count in sorted(_counts(rows, "outcome").items()))]
    notes += [f"{row['test']}: {row['reason']}" for row in bad]
    if bad or finished.status or not rows:
        if not bad:
            notes.append(f"pytest ended with status {finished.status}: {last_line(finished.output)}")
        return Reading(RED, tuple(notes), tuple(rows))
    passed = any(row["outcome"] == "passed" for row in rows)
    return Reading(GREEN if passed else SKIPPED, tuple(notes), tuple(rows))


def read_verify(path: pathlib.Path) -> Callable[[Finished], Reading]:
    """Return the reader of ``lisa_kernels.verify --json path``."""

    def read(finished: Finished) -> Reading:
        if not path.exists():
            return Reading(RED, (f"no result, exit status {finished.status}: {last_line(finished.output)}",))
        record = json.loads(path.read_text())
        failed = [row for row in record["rows"] if row["status"] == "failed"]
        notes = [f"{record['passed']} passed, {record['failed']} failed, {record['skipped']} skipped"]
        notes += [f"{row['case']}, {row['dtype']}, {row['check']}: {row['message']}" for row in failed[:10]]
        status = RED if failed or finished.status else GREEN if record["passed"] else SKIPPED
        return Reading(status, tuple(notes), tuple(record["rows"]))

    return read


def read_rows(path: pathlib.Path) -> Callable[[Finished], Reading]:
    """Return the reader of ``bench.gpu.specimens`` and ``bench.gpu.drive``: a list of rows, each with a ``status``."""

    def read(finished: Finished) -> Reading:
        rows = json.loads(path.read_text()) if path.exists() else []
        notes = [row["message"] for row in rows if row.get("message")]
        if finished.status or not rows:
            notes.append(f"exit status {finished.status}: {last_line(finished.output)}")
            return Reading(RED, tuple(notes), tuple(rows))
        red = any(row.get("status") == "failed" for row in rows)
        return Reading(RED if red else GREEN, tuple(notes), tuple(rows))

    return read


def read_bench(path: pathlib.Path) -> Callable[[Finished], Reading]:
    """Return the reader of ``bench run --json path``; a killed run leaves the rows of the cases it finished."""

    def read(finished: Finished) -> Reading:
        rows = json.loads(path.read_text()) if path.exists() else []
        faults = [
            f"{row['provider']}, {row['case']}, {row['dtype']}: {row['status']}: {row['reason']}"
            for row in rows
            if row["provider"].startswith("lisa ") and row["status"] not in (TIMED, "unavailable")
        ]
        timed = sum(row["status"] == TIMED for row in rows)
        notes = [f"{timed} figures", *faults]
        if finished.status and not faults:
            notes.append(f"exit status {finished.status}: {last_line(finished.output)}")
        return Reading(RED if finished.status or not timed else GREEN, tuple(notes), tuple(rows))

    return read


def read_sanitizer(finished: Finished) -> Reading:
    """Return green for a summary of 0, red for more; without a summary nothing is known."""
    counts = [int(count) for count in _SUMMARY.findall(finished.output)]
    if not counts:
        return Reading(
            SKIPPED, (f"it printed no summary, exit status {finished.status}: {last_line(finished.output)}",)
        )
    found = {"findings": sum(counts)}
    if sum(counts):
        lines = [line for line in finished.output.splitlines() if line.startswith("=========")]
        first = next((i for i, line in enumerate(lines) if "COMPUTE-SANITIZER" not in line), 0)
        told = " | ".join(line.strip("= ").strip() for line in lines[first : first + 4])
        return Reading(RED, (f"{sum(counts)} findings; the first: {told}",), (found,))
    if finished.status:
        return Reading(RED, (f"0 findings, but the run failed: {last_line(finished.output)}",), (found,))
    return Reading(GREEN, ("0 findings",), (found,))


def read_ncu(finished: Finished) -> Reading:
    """Return a row for each kernel launch; a denied profile is skipped, with the driver's reason."""
    if _DENIED in finished.output:
        reason = f"the driver denies profiling ({_DENIED}): an administrator can allow it"
        return Reading(SKIPPED, (reason,))
    lines = finished.output.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return Reading(SKIPPED, (f"no table, exit status {finished.status}: {last_line(finished.output)}",))
    kernels: dict[str, dict[str, Any]] = {}
    for entry in csv.DictReader(line for line in lines[start:] if line.startswith('"')):
        kernel = kernels.setdefault(entry["ID"], {"profiler": "ncu", "kernel": entry["Kernel Name"]})
        if entry["Metric Name"] in NCU_METRICS:
            kernel.setdefault(entry["Metric Name"], f"{entry['Metric Value']} {entry['Metric Unit']}".strip())
    return Reading(GREEN, (f"{len(kernels)} launches",), tuple(kernels.values()))


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def _counts(rows: list[dict[str, Any]], key: str) -> dict[str, int]:
    values = [row[key] for row in rows]
    return {value: values.count(value) for value in set(values)}


def _number(text: str) -> float:
    found = re.match(r"[\d.]+", text)
    return float(found[0]) if found else 0.0
