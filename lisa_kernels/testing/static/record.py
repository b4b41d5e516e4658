"""Figures kept in git, one JSON file for each toolchain version: they move with the compiler too."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping

from lisa_kernels.testing.static.figures import KernelFigures, replays_agree


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The figures of one job that later ones are held against, and those that explain a change."""

    registers: int
    spills: int
    instructions: int
    ceiling: float | None = None
    sim: float | None = None
    sim_range: tuple[float, float] | None = None
    latency_1block: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the replays agreed well enough for ``sim`` to count."""
        return replays_agree(self.sim_range)


# op -> target -> job -> figures
Record = dict[str, dict[str, dict[str, Recorded]]]


def take(figures: KernelFigures) -> Recorded:
    """Return what is kept of a kernel's figures."""
    hot = figures.hot
    return Recorded(
        figures.registers, figures.spills, hot.instructions, hot.ceiling, hot.sim, hot.sim_range, hot.latency_1block
    )


def record_path(folder: pathlib.Path, toolchain: str) -> pathlib.Path:
    """Return the file of a toolchain: ``triton-3.9.0.json``."""
    return folder / f"{toolchain.replace(' ', '-')}.json"


def read_record(folder: pathlib.Path, toolchain: str) -> Record | None:
    """Return the recorded figures of a toolchain version, None where nobody recorded any.

    Raises:
        ValueError: A file that is no record.
    """
    path = record_path(folder, toolchain)
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        return {
            op: {target: {job: _from_json(row) for job, row in jobs.items()} for target, jobs in targets.items()}
            for op, targets in data["figures"].items()
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"read_record: {path} is no record of static figures ({error}). Write it anew.") from error


def write_record(
    folder: pathlib.Path, toolchain: str, found: Iterable[tuple[str, str, str, KernelFigures]]
) -> pathlib.Path:
    """Write figures into the file of a toolchain and return its path; ops and targets not among them stay as they are.

    Args:
        found: (op, target, job's name, figures).
    """
    record = read_record(folder, toolchain) or {}
    fresh: Record = {}
    for op, target, job, figures in found:
        fresh.setdefault(op, {}).setdefault(target, {})[job] = take(figures)
    for op, targets in fresh.items():
        record.setdefault(op, {}).update(targets)
    path = record_path(folder, toolchain)
    folder.mkdir(parents=True, exist_ok=True)
    told = {"toolchain": toolchain, "kind": "static, unitless", "figures": _to_json(record)}
    path.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    return path


def find(record: Record | None, op: str, target: str, job: str) -> Recorded | None:
    """Return the recorded figures of one job, None where there are none."""
    return (record or {}).get(op, {}).get(target, {}).get(job)


def _from_json(row: Mapping) -> Recorded:
    sim_range = row.get("sim_range")
    return Recorded(**{**row, "sim_range": tuple(sim_range) if sim_range else None})


def _to_json(record: Record) -> dict:
    return {
        op: {target: {job: _present(figures) for job, figures in jobs.items()} for target, jobs in targets.items()}
        for op, targets in record.items()
    }


def _present(figures: Recorded) -> dict:
    return {name: value for name, value in dataclasses.asdict(figures).items() if value is not None}
