"""Rows as JSON, as a table and as a page."""

from __future__ import annotations

import json

import pytest

from bench import figures
from bench.providers import COPY
from bench.report import write_report
from bench.rows import read_json, table, write_json
from tests.bench.sample import make_row

REQUIRED = {
    "op", "case", "provider", "dtype", "mode", "threads", "median_ms", "min_ms", "p20_ms", "p80_ms", "peak_mib",
    "ratio_median", "ratio_min", "limit_share", "device", "commit",
}  # fmt: skip

_ROWS = [
    make_row("lisa cpu", ours=True),
    make_row("torch ctc_loss alone", median_ms=20.0, p20_ms=19.0, p80_ms=23.0, ratio_median=10.0, ratio_min=9.5),
    make_row(COPY, median_ms=1.0, p20_ms=0.9, p80_ms=1.1, ratio_median=0.5, limit_share=1.0, peak_mib=None),
    make_row("k2", status="unavailable", reason="not installed", median_ms=None, peak_mib=None, ratio_median=None),
    make_row("lisa cpu", mode="fwd", case="<script>", ours=True),
]


def test_rows_have_the_agreed_keys_and_survive_the_file(tmp_path):
    path = tmp_path / "deep" / "rows.json"
    write_json(path, _ROWS)
    assert all(item.keys() >= REQUIRED for item in json.loads(path.read_text()))
    assert read_json(path) == _ROWS


def test_a_file_without_rows_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('[{"op": "ctc_loss"}]')
    with pytest.raises(ValueError, match=r"other\.json holds no rows"):
        read_json(path)


def test_table_is_by_mode_then_by_time_and_ends_with_reasons():
    lines = table([make_row("a slower one", median_ms=3.0), *_ROWS])
    assert [line.split()[0] for line in lines[1:6]] == ["fwd", *["fwd+bwd"] * 4]
    assert COPY in lines[2]
    assert "lisa cpu *" in lines[3]
    assert "a slower one" in lines[4]
    assert "10.00x" in lines[5]
    assert lines[6].split() == ["k2", "unavailable:", "not", "installed"]


def test_page_is_self_contained_and_shows_figures_and_reasons(tmp_path):
    source, page = tmp_path / "run.json", tmp_path / "out" / "report.html"
    write_json(source, _ROWS)
    assert write_report([source, source], page) == page
    text = page.read_text()
    assert text.count("<h2>") == 2
    assert text.count("<svg") == 6
    assert "not installed" in text
    assert "torch ctc_loss alone 10.00x" in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    for outside in ("<link", "<img", "@import", 'src="http'):
        assert outside not in text


def test_page_of_a_failed_run_says_so(tmp_path):
    source = tmp_path / "run.json"
    write_json(source, [make_row("lisa cpu", status="not timed: verification failed", reason="grad_logits[0]: wrong")])
    assert "not timed: verification failed" in write_report([source], tmp_path / "page.html").read_text()


def test_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json does not exist\. Make it with"):
        write_report([tmp_path / "gone.json"], tmp_path / "page.html")


def test_equal_rows_give_an_equal_picture():
    rows = {"words": _ROWS[:3]}
    assert figures.times(rows) == figures.times(rows)
    assert len({figures.colour(row) for row in _ROWS[:3]}) == 3
