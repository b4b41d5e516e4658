"""``report.md``: on its first page what is right, how fast, and what was left out; then every part."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from bench.gpu.kit import GREEN, RED, SKIPPED, TIMED_OUT, Kit, Outcome
from bench.gpu.steps import STEPS
from bench.rows import TIMED, milliseconds
from bench.timing import CudaClock

_MARKS = {"passed": "green", "failed": "RED"}
_MOST_KERNELS = 20


def make_report(kit: Kit, date: str) -> str:
    """Return the report of what a kit has done so far, in Markdown."""
    order = [step.name for step in STEPS]
    outcomes = sorted(kit.outcomes.values(), key=lambda outcome: order.index(outcome.step))
    stamp = kit.stamp
    facts = [f"{name} {value}" for name, value in stamp.items() if value not in (None, "", False)]
    lines = [
        f"# {stamp['device']}, {date}",
        "",
        f"{verdict(outcomes)}  ",
        f"{', '.join(facts)}",
        f"Clocks as found: {_told(kit.clocks) or 'not read'}. Rows: `rows.jsonl`; what each command printed: `logs/`.",
        *_section("Right", _correctness(kit)),
        *_section("Fast", _speed(kit)),
        *_section("Left out, and why", _left_out(outcomes)),
        *_section("The emulator judged by this GPU", _emulator(kit)),
        *_section("Sanitizers", _statuses(kit.of("sanitizer"))),
        *_section("Profiles (times under a profiler: not for comparison)", _profiles(kit)),
        *_section("Every part", _statuses(outcomes)),
    ]
    return "\n".join(lines) + "\n"


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Return the run in one sentence."""
    counts = collections.Counter(outcome.status for outcome in outcomes)
    reached = {outcome.step for outcome in outcomes}
    told = [f"{counts[status]} {status}" for status in (GREEN, RED, TIMED_OUT, SKIPPED) if counts[status]]
    missing = [step.name for step in STEPS if step.name not in reached]
    stopped = f"; not reached: {', '.join(missing)}" if missing else ""
    return f"**{'RED' if is_bad(outcomes) else 'GREEN'}**: of {len(outcomes)} parts {', '.join(told)}{stopped}."


def is_bad(outcomes: Iterable[Outcome]) -> bool:
    """Whether anything is red or was killed."""
    return any(outcome.status in (RED, TIMED_OUT) for outcome in outcomes)


def _correctness(kit: Kit) -> list[str]:
    """One line for each op, backend and dtype that was judged, and whatever is red."""
    groups: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
    for outcome in kit.of("verify"):
        for row in outcome.rows:
            groups[row["op"], row["backend"], row["dtype"] or "any"].append(row["status"])
    cells = []
    for (op, backend, dtype), statuses in groups.items():
        judged = [status for status in statuses if status in _MARKS]
        mark = _MARKS["failed" if "failed" in judged else "passed"] if judged else "skipped"
        cells.append((op, backend, dtype, mark, f"{judged.count('passed')} of {len(judged)}"))
    bad = [o for o in kit.outcomes.values() if o.status in (RED, TIMED_OUT) and o.step != "bench"]
    return _table(("op", "backend", "dtype", "", "checks passed"), cells) + _faults(bad)


def _speed(kit: Kit) -> list[str]:
    """Figures of CUDA events on this device, and nothing else; the longest mode of each provider."""
    rows = _timings(kit.of("bench"))
    timed = [
        row for row in rows if row["status"] == TIMED and row["device"] == "cuda" and row["clock"] == CudaClock.name
    ]
    trained = {(row["op"], row["provider"]) for row in timed if row["mode"] == "fwd+bwd"}
    shown = [row for row in timed if row["mode"] == "fwd+bwd" or (row["op"], row["provider"]) not in trained]
    cells = [
        (
            row["op"], row["case"], row["dtype"], row["mode"], row["provider"] + (" *" if row["ours"] else ""),
            milliseconds(row["median_ms"]), f"{milliseconds(row['p20_ms'])}-{milliseconds(row['p80_ms'])}",
            row["rounds"], f"{row['ratio_median']:.2f}x" if row["ratio_median"] else "",
            f"{row['peak_mib']:.1f}" if row["peak_mib"] is not None else "",
        )
        for row in shown
    ]  # fmt: skip
    titles = ("op", "case", "dtype", "mode", "provider", "median ms", "20-80 % ms", "rounds", "ratio", "peak MiB")
    lines = _table(titles, cells)
    if cells:
        lines += [
            "",
            f"{CudaClock.name}, L2 flushed, providers in turns; * is ours, ratio is a provider's median over it.",
        ]
    return lines + _faults(o for o in kit.of("bench") if o.status in (RED, TIMED_OUT))


def _timings(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return the rows of ``bench run``."""
    return [row for outcome in outcomes for row in outcome.rows if "provider" in row]


def _left_out(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [f"- {o.step}, {o.part}: {'; '.join(o.notes)}" for o in outcomes if o.status == SKIPPED]
    reasons: dict[str, set[str]] = collections.defaultdict(set)
    for row in _timings(outcomes):
        if row["status"] != TIMED:
            reasons[f"{row['provider']} ({row['op']}): {row['status']}: {row['reason']}"].add(row["case"])
    for row in (row for outcome in outcomes for row in outcome.rows if row.get("outcome") == "skipped"):
        reasons[f"tests: {row['reason']}"].add(row["test"])
    return lines + [f"- {reason} [{len(where)}]" for reason, where in reasons.items()]


def _emulator(kit: Kit) -> list[str]:
    cells = [
        (row["specimen"], row["output"], row["status"], f"{row['error']:.1e}", f"{row['bound']:.1e}",
         f"{row['max_ulp']} ulp at most, {row['equal']:.1%} equal" if "max_ulp" in row else row["emulator_reason"])
        for outcome in kit.of("compare")
        for row in outcome.rows
    ]  # fmt: skip
    return _table(("kernel", "output", "against fp64", "error", "bound", "against the emulator"), cells)


def _profiles(kit: Kit) -> list[str]:
    rows = [row for outcome in kit.of("profile") for row in outcome.rows][:_MOST_KERNELS]
    cells = [(row["profiler"], row["kernel"][:80], _told(row, without=("profiler", "kernel"))) for row in rows]
    return _table(("by", "kernel", "counters"), cells)


def _statuses(outcomes: Iterable[Outcome]) -> list[str]:
    cells = [(o.step, o.part, o.status, f"{o.seconds:.0f}", "; ".join(o.notes)) for o in outcomes]
    return _table(("step", "part", "", "s", ""), cells)


def _faults(outcomes: Iterable[Outcome]) -> list[str]:
    lines = [f"- **{o.status}** {o.step}, {o.part}: {'; '.join(o.notes)}" for o in outcomes]
    return ["", *lines] if lines else []


def _told(values: dict[str, Any], without: Sequence[str] = ()) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if name not in without)


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(lines or ["Nothing."])]


def _table(titles: Sequence[str], cells: Sequence[Sequence[Any]]) -> list[str]:
    if not cells:
        return []
    rows = [titles, ["---"] * len(titles), *cells]
    return ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
