"""The steps, cheapest first.  All budgets together are below 15 minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.gpu.kit import GREEN, RED, Kit, Reading, Step
from bench.gpu.readers import (
    SMI_FIELDS,
    read_bench,
    read_ncu,
    read_pytest,
    read_rows,
    read_sanitizer,
    read_smi,
    read_verify,
)

SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
_PYTHON = sys.executable
_NO_KERNELS = "no op has kernels of ours that run on this device and are green"


def machine(kit: Kit) -> None:
    """The device and its settings as found."""
    device = kit.device
    triton = device["triton"] or "not installed"
    notes = [
        f"{device['name']} ({device['arch']}), {device['memory_mib']} MiB, {device['multiprocessors']} processors",
        f"driver {device['driver'] or 'unknown'}, torch {device['torch']}, triton {triton}",
    ]
    if device["count"] > 1:
        notes.append(f"{device['count']} GPUs: the first is used")
    kit.note("device", Reading(GREEN, tuple(notes), ({"memory_mib": device["memory_mib"]},)))
    for row in _settings(kit, "settings"):
        kit.clocks = {name: row[name] for name in SMI_FIELDS if name.startswith("clocks.")}


def build(kit: Kit) -> None:
    """How ``make setup`` built the native extension."""
    device = kit.device
    if device["native_why_not"]:
        kit.note("native extension", Reading(RED, (device["native_why_not"],)))
    else:
        told = ", ".join(f"{name} {value}" for name, value in device["native"].items())
        kit.note("native extension", Reading(GREEN, (told,)))
    if device["hip"]:
        kit.skip("CUDA kernels", "an AMD GPU: CUDA kernels are not built for it; Triton's are judged")
    elif device["nvcc"] is None:
        kit.skip("CUDA kernels", "nvcc is not in PATH: install the CUDA toolkit, remove .venv/.built and run again")
    elif not device["native"].get("cuda"):
        kit.skip("CUDA kernels", f"the extension was built without them, although nvcc {device['nvcc']} is here")


def tests(kit: Kit) -> None:
    """The tests that need a GPU."""
    options = ["-m", "gpu", "-v", "-rfE", "--color=no", "-p", "no:cacheprovider"]
    # Wide: pytest cuts reasons of skips at the terminal's width.
    command = ["env", "COLUMNS=1000", _PYTHON, "-u", "-m", "pytest", "tests", *options]
    kit.do("pytest -m gpu", command, read_pytest)


def verify(kit: Kit) -> None:
    """Every backend of every op against fp64, each in its own process: an illegal access ends the context."""
    pairs = [(op, backend, refusal) for op, found in kit.device["ops"].items() for backend, refusal in found.items()]
    for op, backend, refusal in pairs:
        if refusal:
            kit.skip(f"{op} on {backend}", refusal)
    able = [(op, backend) for op, backend, refusal in pairs if not refusal]
    for shares, (op, backend) in _countdown(able):
        path = kit.output(f"{op}-{backend}.json")
        command = [_PYTHON, "-m", "lisa_kernels.verify", op, "--backend", backend, "--device", "cuda"]
        # The definition, thousands of small launches a call: it is the judge, and not what is shipped.
        command += ["--quick"] if backend == "reference" else []
        kit.do(f"{op} on {backend}", [*command, "--json", str(path)], read_verify(path), writes=path, shares=shares)


def compare(kit: Kit) -> None:
    """Known kernels on the GPU against fp64, and against what the PTX emulator makes of the same code."""
    if reason := kit.device["specimens_why_not"]:
        kit.skip("specimens", reason)
    for shares, name in _countdown(kit.device["specimens"]):
        path = kit.output(f"{name}.json")
        command = [_PYTHON, "-m", "bench.gpu.specimens", name, "--json", str(path)]
        kit.do(name, command, read_rows(path), writes=path, shares=shares)


def sanitizer(kit: Kit) -> None:
    """One small case of each of our kernels under compute-sanitizer; wrong numbers are no reason to leave one out."""
    subjects = [f"{op}:{backend}" for op, backend in _ours(kit)]
    subjects += [f"specimen:{name}" for name in kit.device["specimens"]]
    tool = kit.tools.find("compute-sanitizer")
    if kit.device["hip"]:
        kit.skip("all tools", "compute-sanitizer is for NVIDIA GPUs")
    elif tool is None:
        kit.skip("all tools", "compute-sanitizer is not in PATH: it comes with the CUDA toolkit")
    elif not subjects:
        kit.skip("all tools", "there are no kernels of ours that run on this device, and no specimens")
    else:
        drive = [_PYTHON, "-m", "bench.gpu.drive", *subjects]
        path = kit.output("plain.json")
        plain = kit.do(
            "without a tool", [*drive, "--json", str(path)], read_rows(path), writes=path, shares=len(SANITIZERS) + 1
        )
        if plain.status != GREEN:
            kit.skip("all tools", "the same run without a tool is not green")
            return
        # Without torch's cache every tensor is an allocation of its own: an access past its end is seen.
        prefix = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", tool, "--target-processes", "application-only"]
        # An API error raises in torch by itself; queries that may fail are not faults of a kernel.
        prefix += ["--report-api-errors", "no"]
        for shares, name in _countdown(SANITIZERS):
            kit.do(name, [*prefix, "--tool", name, "--error-exitcode", "9", *drive], read_sanitizer, shares=shares)


def bench(kit: Kit) -> None:
    """Times of the ops that were green, against the peers that are installed."""
    green = [op for op in kit.device["ops"] if is_green(kit, op)]
    for op in kit.device["ops"]:
        if op not in green:
            kit.skip(op, "not timed: its verification is not green")
    for shares, op in _countdown(green):
        path = kit.output(f"{op}.json")
        command = [_PYTHON, "-m", "bench", "run", op, "--device", "cuda", "--json", str(path)]
        kit.do(op, command, read_bench(path), writes=path, shares=shares)


def clocks(kit: Kit) -> None:
    """The settings once more, while the card is warm: a clock far below its maximum says that it was throttled."""
    _settings(kit, "settings after timing")


def profile(kit: Kit) -> None:
    """Counters of each of our kernels that is green, by ncu; times by torch's profiler where ncu may not."""
    subjects = [f"{op}:{backend}" for op, backend in _ours(kit) if is_green(kit, op)]
    if not subjects:
        kit.skip("all kernels", _NO_KERNELS)
        return
    drive = [_PYTHON, "-m", "bench.gpu.drive", *subjects, "--size", "bench"]
    if kit.device["hip"]:
        kit.skip("ncu", "ncu is for NVIDIA GPUs")
    elif (ncu := kit.tools.find("ncu")) is None:
        kit.skip("ncu", "ncu is not in PATH: it comes with the CUDA toolkit (Nsight Compute)")
    else:
        sections = ("SpeedOfLight", "LaunchStats", "Occupancy", "MemoryWorkloadAnalysis")
        # By default ncu fixes the clocks: this kit changes no setting.
        options = ["--csv", "--page", "details", "--clock-control", "none", "--profile-from-start", "off"]
        options += [word for section in sections for word in ("--section", section)]
        if kit.do("ncu", [ncu, *options, *drive], read_ncu, shares=2).status == GREEN:
            return
    path = kit.output("torch.json")
    kit.do("torch profiler", [*drive, "--profile", "--json", str(path)], read_rows(path), writes=path)


def _settings(kit: Kit, part: str) -> tuple[dict[str, str], ...]:
    """Ask nvidia-smi for clocks, ECC, MIG and load, which nothing here ever changes."""
    if kit.device["hip"]:
        return kit.skip(part, "nvidia-smi is for NVIDIA GPUs; clocks of AMD GPUs are not recorded").rows
    if (smi := kit.tools.find("nvidia-smi")) is None:
        return kit.skip(part, "nvidia-smi is not in PATH: clocks, ECC and MIG are not recorded").rows
    query = [smi, f"--id=GPU-{kit.device['uuid']}", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader"]
    return kit.do(part, query, read_smi).rows


def is_green(kit: Kit, op: str) -> bool:
    """Whether an op's verification found nothing wrong: some backend green, none red."""
    statuses = [outcome.status for outcome in kit.of("verify") if outcome.part.startswith(f"{op} on ")]
    return GREEN in statuses and RED not in statuses


def _ours(kit: Kit) -> list[tuple[str, str]]:
    """Return (op, backend) of what runs on this device and is not plain torch."""
    every = ((op, backend, refusal) for op, found in kit.device["ops"].items() for backend, refusal in found.items())
    return [(op, backend) for op, backend, refusal in every if not refusal and backend != "reference"]


def _countdown(items: list | tuple) -> Iterator[tuple[int, object]]:
    """Yield (how many are left, item)."""
    yield from zip(range(len(items), 0, -1), items, strict=True)


STEPS = (
    Step("machine", 30, machine),
    Step("build", 10, build),
    Step("tests", 180, tests),
    Step("verify", 150, verify),
    Step("compare", 60, compare),
    Step("sanitizer", 180, sanitizer),
    Step("bench", 210, bench),
    Step("clocks", 10, clocks),
    Step("profile", 60, profile),
)
