"""Rows of judged kernels, and the table that ``python -m bench static`` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lisa_kernels.testing.static.figures import KernelFigures, LoopFigures, describe_sim
from lisa_kernels.testing.static.gates import Allowance, Verdict
from lisa_kernels.testing.static.replay import TRUST

_COLUMNS = "    {:7} {:>4} {:>5} {:>5} {:>7} {:>4} {:21} {:8} {:>5} {:>4} {:>3}  {:7} {:>4}  {}"
_TITLES = (
    "target", "regs", "spill", "stack", "smem K", "thr", "resident, limit", "MMA", "instr", "MUFU", "BAR", "bound",
    "ceil", "sim (range), or model cycles",
)  # fmt: skip
_MIX = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel for one target.

    Attributes:
        op: The function it belongs to.
        name: Of the job.
        target: Compiled for.
        figures: None where there are none.
        reason: Why not.
        cases: That reach it.
        verdicts: Of the gates.
        real_size: Whether a case of real size reaches it.
    """

    op: str
    name: str
    target: str
    figures: KernelFigures | None
    reason: str = ""
    cases: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    real_size: bool = True

    @property
    def failed(self) -> bool:
        """Whether a gate failed; a kernel that could not be compiled or read passes none."""
        return self.figures is None or any(verdict.status == "failed" for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return the row for a JSON file, marked as static."""
        told = {"kind": "static", "op": self.op, "name": self.name, "target": self.target, "cases": list(self.cases)}
        if self.figures is None:
            return told | {"reason": self.reason}
        figures = dataclasses.asdict(self.figures)
        return told | {"figures": figures, "gates": [dataclasses.asdict(verdict) for verdict in self.verdicts]}


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table: each kernel and launch choice, below it its targets.

    From ``instr`` on the columns are of the hot loop, or of the straight code where there is no loop.  Loops around
    asynchronous copies get a line each.
    """
    yield _COLUMNS.format(*_TITLES)
    for name in dict.fromkeys(row.name for row in rows):
        yield f"  {name}"
        for row in rows:
            if row.name == name:
                yield from _lines(row)


def trust_line(toolchains: Iterable[str]) -> str:
    """Return the line under all tables: what the figures are, and how far they can be trusted, if there are any."""
    compiled = ", ".join(toolchains)
    return f"static, compiled only, nothing was run ({compiled}). {TRUST}" if compiled else "static: nothing compiled."


def failures(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one line for each gate that failed and each kernel without figures."""
    for row in rows:
        if row.figures is None:
            yield f"  {row.op}, {row.name}, {row.target}: no figures: {row.reason}"
        for verdict in row.verdicts:
            if verdict.status == "failed":
                yield f"  {row.op}, {row.name}, {row.target}: {verdict.gate}: {verdict.text}"


def allowed(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one line for each exception that was used, with its reason and the targets it was used for."""
    used: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        for verdict in row.verdicts:
            if verdict.status == "allowed":
                used.setdefault((row.op, row.name, verdict.gate, verdict.reason), []).append(row.target)
    for (op, name, gate, reason), targets in used.items():
        yield f"  {op}, {name}: {gate}: {reason} ({', '.join(targets)})"


def unused(allowances: Iterable[Allowance], rows: Sequence[Row]) -> Iterator[str]:
    """Yield one line for each exception that no row needed: it hides the next fault of that kind."""
    for allowance in allowances:
        needed = (
            verdict.status == "allowed" and allowance.covers((row.name, row.figures.kernel), row.target, verdict.gate)
            for row in rows
            if row.figures
            for verdict in row.verdicts
        )
        if not any(needed):
            yield f"  {allowance.kernel}, {allowance.target}: {allowance.gate}: {allowance.reason}"


def _lines(row: Row) -> Iterator[str]:
    figures = row.figures
    if figures is None:
        yield f"    {row.target:7} no figures: {row.reason}"
        return
    hot = figures.hot
    yield _COLUMNS.format(
        row.target,
        figures.registers,
        figures.spills,
        figures.stack_bytes,
        f"{figures.shared_bytes / 1024:.1f}",
        figures.threads,
        _resident(figures),
        _matrix(figures),
        hot.instructions,
        hot.special,
        hot.barriers,
        hot.bound_pipe or "-",
        "-" if hot.ceiling is None else f"{hot.ceiling:.2f}",
        _model(hot),
    )
    where = "hot loop" if hot.is_loop else "no loop"
    yield f"            {where}: global {_counts(hot.global_access)}; shared {_counts(hot.shared_access)}"
    yield f"            mix {_counts(hot.mix, most=_MIX)}"
    for loop in figures.loops:
        if loop.copy_groups:
            yield f"            {_stages(loop)}"


def _stages(loop: LoopFigures) -> str:
    """A pipelined loop by its stages, of which the compiler unrolled some: a stage of a recursion is its latency."""
    groups, barriers = loop.copy_groups, f"{loop.barriers / loop.copy_groups:g} barriers"
    cycles = "" if loop.latency_1block is None else f", {loop.latency_1block / groups:.0f} model cycles"
    return f"loop {loop.head}, a stage: {loop.instructions / groups:.0f} instructions{cycles}, {barriers} (of {groups})"


def _resident(figures: KernelFigures) -> str:
    if figures.blocks_per_sm is not None:
        return f"{figures.blocks_per_sm}/SM, {figures.limited_by}"
    return f"{figures.waves_per_simd}/SIMD, {figures.limited_by}"


def _matrix(figures: KernelFigures) -> str:
    """``HGMMA``; of AMD's ``v_mfma_f32_32x32x8_bf16`` the family, the rest is in the mix."""
    return ",".join(dict.fromkeys(kind.removeprefix("v_").split("_")[0] for kind in figures.mma)) or "-"


def _model(hot: LoopFigures) -> str:
    if hot.latency_1block is not None:
        return f"{hot.latency_1block:g} cycles, 1 block" if hot.is_loop else "-"
    return describe_sim(hot) or "no model"


def _counts(counts: Mapping[str, int], most: int | None = None) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(counts.items())[:most]) or "none"
