"""One row of figures, as JSON and as a line of text."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from bench.providers import MODES

TIMED = "timed"


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one provider in one mode of one case, or why not.

    Attributes:
        mode: ``"fwd"`` (a gradient is wanted), ``"bwd"`` alone, or ``"fwd+bwd"``; for providers that
            prepare what layers share, ``"prepare"`` and, with its share, ``"1 layer"`` and ``"24 layers"``.
        threads: CPU threads that torch used.
        peak_mib: Memory held at the peak beyond that at the start of the mode, gradients included.
        gradient_mib: Memory of the gradients, which no provider can avoid.
        ratio_median: The provider's median over ours; ``ratio_min`` likewise of the minima.
        limit_share: The machine's time to read (fwd) or to read and write (else) once, over the provider's median.
        device: ``"cpu"`` or ``"cuda"``; ``machine`` its model.
        commit: Of this repository; ``"-dirty"`` with changes.
        clock: What the times are read from.
        rounds: How many times the statistics hold.
        status: ``"timed"``, or in a word or two why there are no figures; ``reason`` says more.
        ours: Whether the ratios refer to this provider.
    """

    op: str
    case: str
    provider: str
    dtype: str
    mode: str
    threads: int
    device: str
    commit: str
    clock: str
    machine: str
    torch: str
    sizes: dict[str, int]
    median_ms: float | None = None
    min_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    rounds: int = 0
    peak_mib: float | None = None
    gradient_mib: float | None = None
    ratio_median: float | None = None
    ratio_min: float | None = None
    limit_share: float | None = None
    status: str = TIMED
    reason: str = ""
    ours: bool = False


_COLUMNS = "  {:10}{:41}{:>10}{:>10}{:>18}{:>7}{:>10}{:>9}{:>8}"

_TITLES = ("mode", "provider", "median ms", "min ms", "20-80 % ms", "rounds", "peak MiB", "ratio", "limit")


def write_json(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Write rows as a JSON list of objects."""
    replace_text(path, json.dumps([dataclasses.asdict(row) for row in rows], indent=1, allow_nan=False) + "\n")


def replace_text(path: pathlib.Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    half.write_text(text)
    half.replace(path)


def read_json(path: pathlib.Path) -> list[Row]:
    """Return the rows of a file that ``write_json`` wrote.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        return [Row(**item) for item in json.loads(path.read_text())]
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"report: {path} holds no rows of `python -m bench run` ({error}).") from error


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows of one case as lines of text, by mode and then by time; rows without figures last."""
    lines = [_COLUMNS.format(*_TITLES)]
    for mode in MODES:
        timed = [row for row in rows if row.mode == mode and row.status == TIMED]
        lines += [_line(row) for row in sorted(timed, key=lambda row: row.median_ms)]
    for row in rows:
        if row.status != TIMED:
            lines.append(f"  {'':10}{row.provider:41} {row.status}: {row.reason}")
    return lines


def _line(row: Row) -> str:
    return _COLUMNS.format(
        row.mode,
        row.provider + (" *" if row.ours else ""),
        milliseconds(row.median_ms),
        milliseconds(row.min_ms),
        f"{milliseconds(row.p20_ms)}-{milliseconds(row.p80_ms)}",
        row.rounds,
        "" if row.peak_mib is None else f"{row.peak_mib:.2f}",
        "" if row.ratio_median is None else f"{row.ratio_median:.2f}x",
        "" if row.limit_share is None else f"{row.limit_share:.0%}",
    )


def milliseconds(value: float | None) -> str:
    """Return a time with three or four digits."""
    if value is None:
        return ""
    return f"{value:.4f}" if value < 1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
