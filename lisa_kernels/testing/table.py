"""Prints judgements in 120 columns: one line a case, with its check that is closest to its bound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lisa_kernels.testing.rows import FAILED, PASSED, SKIPPED, Row

_CASE_WIDTH = 30
_BAD = "bad input"
_HEAD = f"{'case':{_CASE_WIDTH}} {'checks':>6}  {'closest to its bound':20} {'error':>7} {'bound':>7}  bound comes from"


def case_line(rows: list[Row]) -> str:
    """Return the line of one case: how many checks passed, and the measured one that is closest to its bound."""
    passed = sum(row.status == PASSED for row in rows)
    name = "all bad inputs" if rows[0].check == _BAD else rows[0].case
    name = name if len(name) <= _CASE_WIDTH else name[: _CASE_WIDTH - 1] + "…"
    start = f"{name:{_CASE_WIDTH}} {f'{passed}/{len(rows)}':>6}  "
    measured = [row for row in rows if row.error is not None]
    if not measured:
        return start.rstrip()
    worst = max(measured, key=_closeness)
    what = f"{worst.check}, {_short(worst.dtype)}"
    return f"{start}{what:20} {worst.error:7.1e} {worst.bound:7.1e}  {worst.source}"


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the table while ``rows`` come in; rows of one case must stand together."""
    group: list[Row] = []
    title = ("", "")
    for row in rows:
        if group and _key(group[0]) != _key(row):
            yield from _lines(group)
            group = []
        if (row.op, row.backend) != title and row.status != SKIPPED:
            title = (row.op, row.backend)
            yield from ("", f"{row.op} on {row.backend}", _HEAD)
        group.append(row)
    if group:
        yield from _lines(group)


def details(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one paragraph for each failure and one line for each reason to skip."""
    rows = list(rows)
    if skipped := [row for row in rows if row.status == SKIPPED]:
        yield from ("", "Skipped")
        yield from (f"  {row.op} on {row.backend}{row.case and ', ' + row.case}: {row.message}" for row in skipped)
    if failed := [row for row in rows if row.status == FAILED]:
        yield from ("", "Failed")
        for row in failed:
            yield f"  {row.op} on {row.backend}, {row.case}{row.dtype and ', ' + row.dtype}, {row.check}:"
            yield f"    {row.message}"


def summary(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many rows passed, failed and were skipped."""
    statuses = [row.status for row in rows]
    return {status: statuses.count(status) for status in (PASSED, FAILED, SKIPPED)}


def _lines(group: list[Row]) -> Iterator[str]:
    if group[0].status != SKIPPED:
        yield case_line(group)


def _key(row: Row) -> tuple[str, ...]:
    """Bad inputs of one backend share a line; all dtypes of a case do."""
    return (row.op, row.backend, row.check if row.check == _BAD else row.case)


def _closeness(row: Row) -> float:
    return row.error / row.bound if row.bound else float(row.error > 0)


def _short(dtype: str) -> str:
    return {"float32": "fp32", "float64": "fp64", "float16": "fp16", "bfloat16": "bf16"}.get(dtype, dtype)
