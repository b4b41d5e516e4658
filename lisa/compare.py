"""The same training steps with different CTC losses, each in a process of its own so that peak memory is its own.

A backend that is named runs the attention of the model as well: the reference computes both by their definitions.

``torch64`` computes the loss in fp64 and is what the others are judged by: how far torch's fp32 loss drifts from it is
how far rounding alone moves a curve.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import lisa_kernels
from lisa.builders import build_model
from lisa.config import Config
from lisa.objectives import CtcLoss, ctc
from lisa.randomness import seed_all
from lisa.settings import merge
from lisa.steps import batch_at, load_samples, make_optimizer, take_step

VARIANTS = {
    "torch64": "torch.nn.functional.ctc_loss in fp64",
    "torch": "torch.nn.CTCLoss",
    "reference": "lisa_kernels, reference backend of loss and attention",
    "cpu": "lisa_kernels, cpu backend of both",
}
BOUND_FACTOR = 4.0
WARM_STEPS = 2  # Left out of the median time: the first steps allocate.
TIMING_REPEATS = 5


def _torch_loss(logits: Tensor, *rest: Tensor, zero_infinity: bool) -> Tensor:
    return F.ctc_loss(logits.log_softmax(-1), *rest, zero_infinity=zero_infinity)


def _torch_loss64(logits: Tensor, *rest: Tensor, zero_infinity: bool) -> Tensor:
    return _torch_loss(logits.double(), *rest, zero_infinity=zero_infinity).float()


def variant_loss(name: str) -> tuple[CtcLoss, Callable[[], AbstractContextManager]]:
    """Return the loss of a variant and the context it runs in."""
    if name in ("reference", "cpu"):
        return lisa_kernels.ctc_loss, partial(lisa_kernels.use_backend, name)
    return (_torch_loss64 if name == "torch64" else _torch_loss), nullcontext


def measure(config: Config, name: str, *, steps: int) -> dict:
    """Return losses, times and memory of ``steps`` training steps with one loss, run in this process."""
    loss, context = variant_loss(name)
    samples = load_samples(config, "train")
    seconds = [sample.seconds for sample in samples]
    model = build_model(config).train()
    optimizer = make_optimizer(config, model)
    seed_all(config.train.seed)
    calls: list[tuple] = []

    def kept(logits: Tensor, *rest: Tensor, zero_infinity: bool) -> Tensor:
        calls.append((logits.detach().clone(), *rest))
        return loss(logits, *rest, zero_infinity=zero_infinity)

    losses, step_s = [], []
    with context():
        for step in range(steps):
            batch = batch_at(config, samples, seconds, step)
            began = time.perf_counter()
            terms, _ = take_step(config, model, optimizer, batch, step, objectives={"ctc": partial(ctc, loss=kept)})
            step_s.append(time.perf_counter() - began)
            losses.append(terms["ctc"])
        peak_bytes = _peak_resident_bytes()  # Before the loss is run once more on its own.
        loss_s = [_time_loss(loss, call) for call in calls[WARM_STEPS:]]
        loss_bytes = max(_loss_bytes(loss, call) for call in calls)
    return {
        "name": name,
        "losses": losses,
        "step_s": statistics.median(step_s[WARM_STEPS:]),
        "loss_s": statistics.median(loss_s),
        "peak_bytes": peak_bytes,
        "loss_bytes": loss_bytes,
    }


def _run_loss(loss: CtcLoss, call: tuple) -> None:
    logits, *rest = call
    loss(logits.requires_grad_(), *rest, zero_infinity=True).backward()
    logits.grad = None


def _time_loss(loss: CtcLoss, call: tuple) -> float:
    times = []
    for _ in range(TIMING_REPEATS):
        began = time.perf_counter()
        _run_loss(loss, call)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _loss_bytes(loss: CtcLoss, call: tuple) -> int:
    """Return the most bytes torch's allocator held at once for the loss, forward and backward, beyond its inputs."""
    with torch.profiler.profile(profile_memory=True) as profile:
        _run_loss(loss, call)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def _peak_resident_bytes() -> int | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def compare(config: Config, folder: Path, *, steps: int) -> list[dict]:
    """Return a row per variant; one that cannot run has a ``reason`` instead of figures.

    Each runs twice, the second time in reverse order, so that a machine that warms up or is shared shows as the spread
    between the two: times and peaks are lists of two. ``largest_difference`` is from the fp64 curve, ``bound`` what it
    may be: 4 times what torch's fp32 loss shows there, plus 8 units in the last place of the loss.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    runs: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    for name in (*VARIANTS, *reversed(VARIANTS)):
        runs[name].append(_measure_apart(name, folder, steps))
    rows = [_merged(*pair) for pair in runs.values()]
    judge(rows)
    return rows


def _measure_apart(name: str, folder: Path, steps: int) -> dict:
    out = folder / f"{name}.json"
    command = [sys.executable, "-m", "lisa.compare", name, str(folder / "config.json"), str(steps)]
    command += [str(torch.get_num_threads()), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(out.read_text())
    return {"name": name, "reason": (done.stderr.strip().splitlines() or ["no message"])[-1]}


def _merged(first: dict, second: dict) -> dict:
    failed = next((run for run in (first, second) if "reason" in run), None)
    if failed:
        return failed
    spread = {key: sorted((first[key], second[key])) for key in ("step_s", "loss_s", "peak_bytes") if first[key]}
    return {**first, **spread, "repeatable": first["losses"] == second["losses"]}


def judge(rows: list[dict]) -> None:
    """Add ``largest_difference``, ``bound`` and ``equal`` to each row that has losses."""
    by_name = {row["name"]: row for row in rows if "losses" in row}
    if not {"torch64", "torch"} <= by_name.keys():
        return
    truth = by_name["torch64"]["losses"]

    def largest(row: dict) -> float:
        return max(abs(a - b) for a, b in zip(row["losses"], truth, strict=True))

    bound = BOUND_FACTOR * largest(by_name["torch"]) + 8 * torch.finfo(torch.float32).eps * max(truth)
    for row in by_name.values():
        row |= {"largest_difference": largest(row), "bound": bound, "equal": largest(row) <= bound}


def _main() -> None:
    parser = argparse.ArgumentParser(description="measure one variant (run by compare)")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("config", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wanted = merge(Config(), json.loads(options.config.read_text()))
    options.out.write_text(json.dumps(measure(wanted, options.variant, steps=options.steps)))


if __name__ == "__main__":
    _main()
