"""The demo on made-up data: every stage runs, and the page needs nothing from outside."""

import re

import pytest
import torch

from lisa import demo, figures
from lisa.builders import build_model, preset
from lisa.cli import main
from lisa.compare import judge
from lisa.synthetic import NOTE, samples
from lisa.tasks.alignment import Span


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--synthetic", "--run", str(run / "demo")]) == 0
    return run / "demo" / "report.html"


def test_page_has_every_part_and_no_outside_resource(page):
    html = page.read_text()
    for part in (
        "Error rates",
        "Three held-out clips",
        "Where the words are",
        "The same training steps",
    ):
        assert part in html
    assert html.count("data:image/png;base64,") == 3
    assert html.count("data:audio/flac;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)


def test_words_of_the_first_clip_stand_in_order_with_their_times(page):
    html = page.read_text()
    said = re.search(r"</audio></td>\s*<td>(.*?)<br>", html).group(1)
    section = html[html.index("<h2>Where the words") : html.index("<h2>Training")]
    rows = re.findall(r"<tr><td>(\S+)</td><td class=\"n\">([\d.]+)</td><td class=\"n\">([\d.]+)</td>", section)
    assert [word for word, _, _ in rows] == said.split()
    times = [float(time) for _, start, end in rows for time in (start, end)]
    assert times == sorted(times)


def test_every_error_rate_of_made_up_data_says_so(page):
    html = page.read_text()
    section = html[html.index("<h2>Error rates") : html.index("<h2>Three")]
    rows = [row for row in section.split("<tr")[1:] if "%" in row]
    assert rows
    assert all(NOTE in row for row in rows)


def test_a_folder_of_something_else_is_not_cleared(tmp_path, capsys):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.txt").write_text("keep me")
    assert main(["demo", "--synthetic", "--run", str(tmp_path)]) == 2
    assert "holds something else than a demo" in capsys.readouterr().err
    assert (tmp_path / "training" / "mine.txt").is_file()


def test_a_slow_machine_gets_fewer_steps_and_a_shorter_warm_up():
    config = preset("asr-tiny")
    demo._fit_to_time(config, [{"name": "torch", "step_s": [2.0, 3.0]}, {"name": "cpu", "reason": "not built"}])
    assert config.train.steps == int(demo.TRAINING_S / 2.2)
    assert config.train.warmup == config.train.steps // 4
    fast = preset("asr-tiny")
    demo._fit_to_time(fast, [{"name": "cpu", "step_s": [0.01, 0.01]}])
    assert fast == preset("asr-tiny")


def test_curves_are_judged_by_what_rounding_does_to_torchs_own():
    def row(name, *losses):
        return {"name": name, "losses": list(losses)}

    rows = [
        row("torch64", 2.0, 1.0),
        row("torch", 2.0, 1.00001),
        row("cpu", 2.0, 1.00003),
        row("reference", 2.0, 1.1),
    ]
    rows.append({"name": "other", "reason": "not built"})
    judge(rows)
    assert [one.get("equal") for one in rows] == [True, True, True, False, None]


def test_a_loss_that_did_not_run_or_differs_is_a_fault():
    rows = [{"name": "torch64", "reason": "killed"}, {"name": "cpu", "equal": False}, {"name": "torch", "equal": True}]
    assert demo.faults(rows, built=True) == [
        "loss torch64 did not run (killed)",
        "the loss curve of cpu lies beyond the bound",
    ]


def test_the_native_loss_may_be_missing_where_it_is_not_built():
    rows = [{"name": "cpu", "reason": "not built"}, {"name": "torch", "equal": True}]
    assert demo.faults(rows, built=False) == []
    assert demo.faults(rows, built=True) == ["loss cpu did not run (not built)"]


def test_curves_are_drawn_without_the_fp64_one():
    assert figures.side_by_side([{"name": "torch64", "reason": "killed"}, {"name": "torch", "losses": [2.0, 1.0]}])


def test_occupancy_is_a_distribution_at_every_frame_and_holds_the_text():
    config = preset("asr-test")
    clip = samples("test", seed=1)[0]
    mel, occupied, _ = figures.occupancy(build_model(config).eval(), config, clip)
    assert occupied.shape == (-(-mel.shape[0] // 4), 29)
    # Sums of about 30 fp32 numbers between 0 and 1.
    assert (occupied.sum(dim=1) - 1).abs().max() < 1e-4
    assert occupied.min() > -1e-4
    # Each character of the text must be visited once, each other class never.
    from lisa.text import encode

    others = set(range(1, 29)) - set(encode(clip.text))
    assert occupied[:, sorted(others)].abs().max() < 1e-4
    assert occupied[:, sorted(set(encode(clip.text)))].sum() > len(clip.text) - 1e-2


def test_alignment_is_drawn_for_a_clip_of_one_frame_and_one_character():
    assert figures.alignment(torch.zeros(4, 8), torch.zeros(1, 29), [Span("a", 0.0, 0.04, -1.0)])
