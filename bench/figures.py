"""The report's pictures, as SVG text."""

from __future__ import annotations

import dataclasses
import io
import operator
import re
from collections.abc import Callable, Sequence

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.providers import LIMITS
from bench.rows import Row, milliseconds

_STYLE = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": "#e6e6e6",
    "ytick.major.size": 0,
    "svg.fonttype": "path",
    # Equal rows give an equal file.
    "svg.hashsalt": "bench",
}
_OURS, _OTHER_OURS, _LIMIT, _PEER = "#c8384f", "#e3a1ab", "#9a9a9a", "#2f6fae"
# Inches a bar, and for the title and axis of a panel.
_BAR, _FRAME = 0.29, 1.0


@dataclasses.dataclass(frozen=True)
class _View:
    """What one kind of picture shows of a row: its bar, the text beside it, and how far the row's ink reaches."""

    label: str
    value: Callable[[Row], float | None]
    text: Callable[[float], str]
    edge: Callable[[Row], float]
    finish: Callable[[Axes, Sequence[Row]], None]


def ratios(cases: dict[str, list[Row]]) -> str:
    """Return bars of each provider's median over ours, one panel a case; rows of one mode."""
    value = operator.attrgetter("ratio_median")
    return _panels(cases, _View("time over ours (log)", value, "{:.2f}x".format, value, _ratio_axis))


def times(cases: dict[str, list[Row]]) -> str:
    """Return medians with whiskers from the 20th to the 80th percentile, one panel a case; rows of one mode."""
    value, edge = operator.attrgetter("median_ms"), operator.attrgetter("p80_ms")
    return _panels(cases, _View("ms (log); whiskers: 20-80 %", value, milliseconds, edge, _time_axis))


def memory(cases: dict[str, list[Row]]) -> str:
    """Return bars of peak memory, the gradients' part hatched, one panel a case; rows of one mode."""
    value = operator.attrgetter("peak_mib")
    return _panels(cases, _View("peak MiB; hatched: the gradients", value, "{:.1f}".format, value, _memory_axis))


def colour(row: Row) -> str:
    """Return the colour of a provider: ours, our other backends, the machine's limit, peers."""
    if row.ours:
        return _OURS
    if row.provider in LIMITS:
        return _LIMIT
    return _OTHER_OURS if row.provider.startswith("lisa ") else _PEER


def _panels(cases: dict[str, list[Row]], view: _View) -> str:
    shown = {case: [row for row in rows if view.value(row) is not None] for case, rows in cases.items()}
    shown = {case: rows for case, rows in shown.items() if rows}
    if not shown:
        return ""
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    bars = max(len(rows) for rows in shown.values())
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            down, across, figsize=(5.6 * across, down * (bars * _BAR + _FRAME)), layout="constrained", squeeze=False
        )
        panels = list(axes.flat)
        for panel in panels[len(shown) :]:
            panel.remove()
        for panel, (case, rows) in zip(panels, shown.items(), strict=False):
            _draw(panel, case, rows, view)
        return _svg(figure)


def _draw(panel: Axes, case: str, rows: Sequence[Row], view: _View) -> None:
    panel.barh(range(len(rows)), [view.value(row) for row in rows], color=[colour(row) for row in rows], height=0.68)
    view.finish(panel, rows)
    for place, row in enumerate(rows):
        panel.annotate(
            view.text(view.value(row)), (view.edge(row), place), (5, 0),
            textcoords="offset points", va="center", fontsize=8.5,
        )  # fmt: skip
    panel.set_yticks(range(len(rows)), [row.provider for row in rows])
    panel.invert_yaxis()
    sizes = " ".join(f"{letter}={size}" for letter, size in rows[0].sizes.items())
    panel.set_title(f"{case}\n{sizes}", loc="left", fontsize=9)
    panel.set_xlabel(view.label)


def _ratio_axis(panel: Axes, rows: Sequence[Row]) -> None:
    panel.set_xscale("log")
    values = [row.ratio_median for row in rows]
    _room(panel, min([*values, 0.5]) * 0.8, max([*values, 2]))
    panel.axvline(1, color=_OURS, linewidth=1)


def _time_axis(panel: Axes, rows: Sequence[Row]) -> None:
    panel.set_xscale("log")
    middle = [row.median_ms for row in rows]
    reach = [[row.median_ms - row.p20_ms for row in rows], [row.p80_ms - row.median_ms for row in rows]]
    panel.errorbar(middle, range(len(rows)), xerr=reach, fmt="none", ecolor="#222222", elinewidth=1, capsize=2.5)
    _room(panel, min(row.p20_ms for row in rows) / 2, max(row.p80_ms for row in rows))


def _memory_axis(panel: Axes, rows: Sequence[Row]) -> None:
    gradients = [row.gradient_mib or 0 for row in rows]
    panel.barh(range(len(rows)), gradients, height=0.68, color="none", edgecolor="white", hatch="////", linewidth=0)
    panel.set_xlim(0, max(row.peak_mib for row in rows) * 1.3)


def _room(panel: Axes, low: float, high: float) -> None:
    """Leave a quarter of a log axis for the figures behind the bars."""
    panel.set_xlim(low, high * (high / low) ** 0.3)


def _svg(figure: plt.Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    # Inline in HTML: no XML head; narrower pages shrink it, wider ones do not blow it up.
    width = round(figure.get_figwidth() * 96)
    sizes = r'width="[\d.]+pt" height="[\d.]+pt"'
    return re.sub(sizes, f'style="max-width: {width}px"', text[text.index("<svg") :], count=1)
