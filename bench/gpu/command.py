"""The command: find the device, go through the steps, write the report."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from bench.gpu.kit import Kit, stamp_of
from bench.gpu.report import is_bad, make_report, verdict
from bench.gpu.steps import STEPS
from bench.gpu.tools import ROOT, LocalTools, Tools
from bench.rows import replace_text

FOLDER = ROOT / "runs" / "gpu"
_PROBE_S = 60


class NoGpuError(Exception):
    """There is nothing to run on; the text says how to mend it."""


def run(
    *,
    fresh: bool = False,
    repeat: Sequence[str] = (),
    folder: pathlib.Path = FOLDER,
    tools: Tools | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Go through all steps and return the exit code: 0 where nothing is red, 1 where something is, 2 without a GPU.

    Args:
        fresh: Repeat what an earlier run finished.
        repeat: Names of steps to repeat.
        folder: Holds a folder for each device and day.

    Raises:
        ValueError: ``repeat`` names no step.
    """
    names = [step.name for step in STEPS]
    if unknown := [name for name in repeat if name not in names]:
        raise ValueError(f"gpu: --repeat is {unknown[0]!r}; it takes {', '.join(names)}.")
    tools = tools or LocalTools()
    try:
        device = find_device(tools)
    except NoGpuError as reason:
        print(f"gpu: {reason}", file=sys.stderr)
        return 2
    today = tools.today()
    place = find_folder(folder, device, today, finished_too=bool(repeat), fresh=fresh)
    kit = Kit(tools, place, device, repeat=names if fresh else repeat, say=say)
    say(f"{device['name']}, {device['torch']}, commit {device['commit']}: {place}")
    try:
        for step in STEPS:
            kit.work_through(step)
            # After each step: a run that is killed leaves a report of what it did.
            _write(kit, today, finished=step is STEPS[-1])
    except KeyboardInterrupt:
        say("gpu: interrupted; the same command goes on from here")
        return 130
    say(f"{verdict(list(kit.outcomes.values()))}\nreport: {place / 'report.md'}")
    return 1 if is_bad(kit.outcomes.values()) else 0


def interrupt_on_hangup() -> None:
    """Treat a closed terminal like Ctrl-C: the command that runs is killed, and what is finished is kept."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def find_device(tools: Tools) -> dict[str, Any]:
    """Return what the probe found, the version of nvcc and a digest of uncommitted changes.

    Raises:
        NoGpuError: torch is missing or sees no GPU.
    """
    done = tools.run([sys.executable, "-m", "bench.gpu.probe"], limit_s=_PROBE_S)
    if done.timed_out:
        raise NoGpuError(f"asking torch for the GPU took more than {_PROBE_S} s: the driver hangs; try nvidia-smi.")
    lines = [line for line in done.output.splitlines() if line.startswith("{")]
    if done.status or not lines:
        last = (done.output.strip().splitlines() or ["it printed nothing"])[-1]
        raise NoGpuError(f"asking torch for the GPU failed ({last}); `make setup` installs what is missing.")
    device = json.loads(lines[-1])
    if not device["gpu"]:
        raise NoGpuError(_no_gpu(device))
    nvcc = tools.find("nvcc")
    told = tools.run([nvcc, "--version"], limit_s=_PROBE_S).output if nvcc else ""
    release = re.search(r"release ([\d.]+)", told)
    changes = tools.run(["git", "diff", "HEAD"], limit_s=_PROBE_S).output
    digest = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else ""
    return device | {"nvcc": release[1] if release else None, "changes": digest}


def find_folder(
    root: pathlib.Path, device: dict[str, Any], today: str, *, finished_too: bool = False, fresh: bool = False
) -> pathlib.Path:
    """Return the folder of the newest run that this one goes on from, else that of today.

    A run goes on from one that stopped half-way with equal device, driver, versions, commit and changes.

    Args:
        finished_too: Go on also from one that finished.
        fresh: Go on from none.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", device["name"].lower()).strip("-")
    runs = [] if fresh else sorted(root.glob(f"{slug}-????-??-??/run.json"), reverse=True)
    for path in runs:
        found = json.loads(path.read_text())
        if found["stamp"] == stamp_of(device) and (finished_too or not found["finished"]):
            return path.parent
    return root / f"{slug}-{today}"


def _write(kit: Kit, date: str, *, finished: bool) -> None:
    replace_text(kit.folder / "run.json", json.dumps({"stamp": kit.stamp, "finished": finished}, indent=1) + "\n")
    replace_text(kit.folder / "report.md", make_report(kit, date))


def _no_gpu(device: dict[str, Any]) -> str:
    if device["cuda"] is None and device["hip"] is None:
        wheel = device["torch"].partition("+")[0]
        return (
            f"torch {device['torch']} is a CPU build; it takes a machine with a GPU and a CUDA or ROCm build of torch. "
            f"Install one (pytorch.org/get-started, version {wheel}) with {sys.executable} -m pip, "
            "remove .venv/.built and run `make gpu` again."
        )
    build = f"CUDA {device['cuda']}" if device["cuda"] else f"ROCm {device['hip']}"
    return f"torch {device['torch']} ({build}) sees no GPU; check that one is listed by nvidia-smi or rocm-smi."
