"""``python -m bench.gpu.drive OP:BACKEND|specimen:NAME ...``: run kernels once, for the tools that watch them.

A sanitizer or profiler starts this and sees forward and backward of each subject.  Under ``ncu --profile-from-start
off`` only what lies between start and stop of the profiler is seen: the first call, which compiles, is left out.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.rows import replace_text
from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import Case, OpSpec
from lisa_kernels.testing.inputs import make_inputs, require_grad
from lisa_kernels.testing.subject import name_outputs

_SMALL_CASES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every subject; return 0.  What fails raises: the tool that watches sees it."""
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    runs = [(name, run) for name in options.subject for run in _runs(name, device, options.size)]
    for _, run in runs if options.size == "bench" else ():
        run()
    rows = _profile(runs, device) if options.profile else _run(runs, device)
    if options.json:
        replace_text(options.json, json.dumps(rows, indent=1) + "\n")
    print(f"{len(runs)} runs of {len(options.subject)} subjects")
    return 0


def _runs(name: str, device: torch.device, size: str) -> list[Callable[[], object]]:
    """Return the calls that exercise one subject."""
    kind, _, what = name.partition(":")
    if kind == "specimen":
        from bench.gpu.specimens import run_specimen

        return [lambda: run_specimen(what, device)]
    (spec,) = select((kind,))
    if size == "bench":
        return [_step(spec, spec.bench[0], torch.bfloat16, device, what)]
    cases, dtypes = spec.cases[:_SMALL_CASES], (torch.float32, torch.bfloat16)
    return [_step(spec, case, dtype, device, what) for case in cases for dtype in dtypes]


def _step(spec: OpSpec, case: Case, dtype: torch.dtype, device: torch.device, backend: str) -> Callable[[], object]:
    """Return a call that does forward and backward of one case; its inputs are made now."""
    dtype = dtype if dtype in spec.dtypes else spec.dtypes[0]
    kwargs = require_grad(make_inputs(spec, case, dtype, device), spec.differentiable)

    def step() -> object:
        with use_backend(backend):
            outputs = name_outputs(spec.function(**kwargs)).values()
            graded = [output for output in outputs if output.requires_grad]
            leaves = [kwargs[name] for name in spec.differentiable]
            upstream = [torch.ones_like(output) for output in graded]
            return torch.autograd.grad(graded, leaves, upstream) if graded else None

    return step


def _run(runs: list[tuple[str, Callable[[], object]]], device: torch.device) -> list[dict[str, Any]]:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
    for _, run in runs:
        run()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
    return [{"subject": name, "status": "ran"} for name, _ in runs]


def _profile(runs: list[tuple[str, Callable[[], object]]], device: torch.device) -> list[dict[str, Any]]:
    """Return the time of each kernel on the device, by torch's profiler."""
    if device.type != "cuda":
        raise ValueError(f"drive: --profile came with --device {device}; it takes cuda.")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        _run(runs, device)
    return [
        {"profiler": "torch", "kernel": event.key, "launches": event.count, "device_us": event.self_device_time_total}
        for event in profiler.key_averages()
        if event.self_device_time_total > 0
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.drive", description=__doc__)
    parser.add_argument("subject", nargs="+", metavar="OP:BACKEND|specimen:NAME")
    parser.add_argument("--device", default="cuda", help="%(default)s")
    parser.add_argument("--size", choices=("small", "bench"), default="small", help="%(default)s")
    parser.add_argument("--profile", action="store_true", help="rows of torch's profiler")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
