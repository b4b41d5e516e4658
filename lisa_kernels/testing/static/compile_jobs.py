"""Compiles and analyses jobs, in two processes and with results kept by content: a second run reads files."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import importlib
import json
import multiprocessing
import pathlib
import pickle
import sys
from collections.abc import Sequence
from typing import Any

from lisa_kernels.core.launch import LaunchRecord
from lisa_kernels.testing.static.figures import KernelFigures, from_json
from lisa_kernels.testing.static.jobs import Job
from lisa_kernels.testing.static.triton_kernel import analyze_launch, toolchain_name

# A worker imports torch and triton first, about 3 s: fewer jobs are done sooner in this process.
_FEW_JOBS = 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A job and its figures, or the reason why there are none."""

    job: Job
    figures: KernelFigures | None
    reason: str = ""


def analyze_jobs(jobs: Sequence[Job], *, workers: int = 2, cache: pathlib.Path | None = None) -> list[Outcome]:
    """Return the outcome of each job, in order.

    Args:
        workers: Processes; kernels that cannot be imported by name are compiled in this one.
        cache: A folder that keeps figures by content (kernel source, specialisation, toolchain, this model); None
            keeps nothing.
    """
    found: dict[int, Outcome] = {}
    files = {i: cache / f"{_content_key(job)}.json" for i, job in enumerate(jobs)} if cache else {}
    for i, file in files.items():
        if file.is_file():
            found[i] = Outcome(jobs[i], from_json(json.loads(file.read_text())))
    missing = [i for i in range(len(jobs)) if i not in found]
    for i, outcome in zip(missing, _analyze([jobs[i] for i in missing], workers), strict=True):
        found[i] = outcome
        if cache and outcome.figures is not None:
            cache.mkdir(parents=True, exist_ok=True)
            files[i].write_text(json.dumps(dataclasses.asdict(outcome.figures)))
    return [found[i] for i in range(len(jobs))]


def _analyze(jobs: Sequence[Job], workers: int) -> list[Outcome]:
    if workers < 2 or len(jobs) <= _FEW_JOBS:
        return [Outcome(job, *_attempt(job.record, job.target)) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        parcels = [_pack(job.record) for job in jobs]
        pending = [
            pool.submit(_attempt_packed, parcel, job.target) if parcel else None
            for job, parcel in zip(jobs, parcels, strict=True)
        ]
        return [
            Outcome(job, *(future.result() if future else _attempt(job.record, job.target)))
            for job, future in zip(jobs, pending, strict=True)
        ]


def _attempt(record: LaunchRecord, target: str) -> tuple[KernelFigures | None, str]:
    """Figures, or what the compiler or a missing tool says: one kernel must not end a whole table."""
    try:
        return analyze_launch(record, target), ""
    except Exception as error:
        # Triton's first line is the place, its last the cause; the source stands between them.
        lines = str(error).strip().splitlines() or ["no message"]
        return None, f"{type(error).__name__}: {' '.join(dict.fromkeys((lines[0], lines[-1])))}"


def _attempt_packed(parcel: bytes, target: str) -> tuple[KernelFigures | None, str]:
    module, name, rest = pickle.loads(parcel)
    return _attempt(LaunchRecord(_find(importlib.import_module(module), name), **rest), target)


def _pack(record: LaunchRecord) -> bytes | None:
    """Return the record for another process, with the kernel as a name; None where it has none there."""
    kernel = record.kernel
    module, name = kernel.fn.__module__, kernel.fn.__qualname__
    if module == "__main__" or _find(sys.modules.get(module), name) is not kernel:
        return None
    rest = {field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.name != "kernel"}
    try:
        return pickle.dumps((module, name, rest))
    except (pickle.PicklingError, TypeError, AttributeError):
        return None


def _find(module: Any, qualified: str) -> Any:
    return functools.reduce(lambda found, name: getattr(found, name, None), qualified.split("."), module)


def _content_key(job: Job) -> str:
    """Digest of all that the figures depend on; Triton's own key covers the functions that a kernel calls."""
    parts = (job.record.kernel.cache_key, job.record.kernel.__name__, job.digest, job.target, toolchain_name())
    return hashlib.sha256("\n".join([*parts, _model_digest()]).encode()).hexdigest()


@functools.cache
def _model_digest() -> str:
    sources = sorted(pathlib.Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
