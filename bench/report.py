"""``python -m bench report``: one HTML page without outside resources from the rows of one or several runs."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import jinja2

from bench import figures
from bench.providers import LIMITS
from bench.rows import TIMED, Row, milliseconds, read_json

_MAIN_MODE = "fwd+bwd"


def write_report(sources: Sequence[pathlib.Path], page: pathlib.Path) -> pathlib.Path:
    """Write the page and return its path.

    Args:
        sources: JSON files of ``python -m bench run``; each becomes a part of the page.

    Raises:
        ValueError: A file is missing, or holds no rows.
    """
    if missing := [path for path in sources if not path.exists()]:
        raise ValueError(f"report: --json {missing[0]} does not exist. Make it with `python -m bench run --json FILE`.")
    parts = [part for path in sources for part in _parts(path)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"milliseconds": milliseconds, "percent": lambda value: f"{value:.0%}"}
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(environment.get_template("report.html.j2").render(parts=parts, timed=TIMED), encoding="utf-8")
    return page


def _parts(path: pathlib.Path) -> list[dict]:
    """Return what the page shows of one file: a part for each op and dtype."""
    rows = read_json(path)
    if not rows:
        raise ValueError(f"report: {path} holds no rows. Make some with `python -m bench run --json FILE`.")
    keys = dict.fromkeys((row.op, row.dtype) for row in rows)
    return [_part(path, [row for row in rows if (row.op, row.dtype) == key]) for key in keys]


def _part(path: pathlib.Path, rows: list[Row]) -> dict:
    timed = [row for row in rows if row.status == TIMED]
    main = _by_case([row for row in timed if row.mode == _MAIN_MODE])
    computing = {case: [row for row in found if row.provider not in LIMITS] for case, found in main.items()}
    return {
        "file": path.name,
        "head": rows[0],
        "summary": [_summary(case, found) for case, found in main.items()],
        "ratios": figures.ratios(main),
        "times": figures.times(main),
        "memory": figures.memory(computing),
        "rows": timed,
        "absent": _absences([row for row in rows if row.status != TIMED]),
    }


def _by_case(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each case, fastest first."""
    cases = dict.fromkeys(row.case for row in rows)
    return {case: sorted((r for r in rows if r.case == case), key=lambda r: r.median_ms) for case in cases}


def _summary(case: str, rows: list[Row]) -> dict:
    """Return the line of one case: ours, its share of the limit, and the peers' ratios."""
    ours = next((row for row in rows if row.ours), None)
    peers = [row for row in rows if row.provider not in LIMITS and not row.ours]
    return {"case": case, "ours": ours, "peers": peers}


def _absences(rows: list[Row]) -> list[dict]:
    """Return one line for each provider, status and reason, with the cases it holds for."""
    cases: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        cases.setdefault((row.provider, row.status, row.reason), []).append(row.case)
    return [{"provider": p, "status": s, "reason": r, "cases": names} for (p, s, r), names in cases.items()]
