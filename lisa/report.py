"""The demo's page: one HTML file without any outside resource, and the same tables as lines of text."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jiwer
import soundfile

from lisa import synthetic
from lisa.audio import SAMPLE_RATE_HZ
from lisa.compare import BOUND_FACTOR, VARIANTS
from lisa.config import Config
from lisa.data import Sample
from lisa.errors import named
from lisa.tasks.alignment import Span
from lisa.tasks.asr import Scores


@dataclass(frozen=True)
class Story:
    """What a demo found; the template uses these names."""

    config: Config
    about: dict[str, Any]
    parts: dict[str, dict[str, float]]
    compared: list[dict]
    scores: dict[str, dict[str, Scores]]
    clips: list[dict]
    words: list[Span]
    log: list[dict]
    pictures: dict[str, str]
    facts: dict[str, str]
    stages: dict[str, float]


def spread(pair: list[float] | None, scale: float, digits: int) -> str:
    """Return two measurements as ``109–128``, or one number where they agree to the digits shown."""
    shown = [f"{value * scale:.{digits}f}" for value in pair or []]
    return "–".join(dict.fromkeys(shown)) or "?"


def compare_lines(rows: list[dict]) -> list[str]:
    """Return the comparison as text, one line a variant; times and peaks are those of two runs."""
    lines = []
    for row in rows:
        if "reason" in row:
            lines.append(f"{VARIANTS[row['name']]}: did not run: {row['reason']}")
            continue
        verdict = {True: "equal", False: "DIFFERS", None: "not judged"}[row.get("equal")]
        lines.append(
            f"{VARIANTS[row['name']]}: last loss {row['losses'][-1]:.6f} ({verdict})"
            f"  step {spread(row['step_s'], 1e3, 0)} ms  loss alone {spread(row['loss_s'], 1e3, 2)} ms"
            f"  peak {spread(row['peak_bytes'], 2**-20, 0)} MiB  loss alone {row['loss_bytes'] / 2**20:.2f} MiB"
        )
    return lines


def score_lines(scores: dict[str, dict[str, Scores]], *, made_up: bool) -> list[str]:
    """Return error rates as text, model first; made-up data are called so on every line."""
    note = f"  ({synthetic.NOTE})" if made_up else ""
    lines = []
    for part, rows in scores.items():
        lines.append(f"{part}: {rows['model'].prompts} prompts, {rows['model'].words} words")
        lines += [f"  CER {row.cer:7.1%}  WER {row.wer:7.1%}  {name}{note}" for name, row in rows.items()]
    return lines


def clip_row(clip: Sample, heard: str) -> dict[str, Any]:
    """Return what the page shows of one clip, its sound as FLAC in base64 included."""
    buffer = io.BytesIO()
    soundfile.write(buffer, clip.speech.numpy(), SAMPLE_RATE_HZ, format="FLAC")
    return {
        "id": clip.id,
        "said": clip.text,
        "heard": heard,
        "cer": jiwer.cer(clip.text, heard),
        "flac": base64.b64encode(buffer.getvalue()).decode("ascii"),
    }


def dev_by_minute(log: list[dict]) -> list[dict]:
    """Return the dev scores with the minutes of training (validation left out) before each."""
    rows, elapsed = [], 0.0
    for row in log:
        if "loss" in row:
            elapsed += row["seconds"] / 60
        else:
            rows.append({"step": row["step"], "minutes": elapsed, "cer": row["dev_cer"], "wer": row["dev_wer"]})
    return rows


def write(page: Path, story: Story) -> None:
    """Write ``story`` as one HTML file by the template ``report.html``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["spread"] = spread
    html = environment.get_template("report.html").render(
        **vars(story),
        made_up=synthetic.NOTE if story.config.data.source == "synthetic" else "",
        variants=VARIANTS,
        bound_factor=f"{BOUND_FACTOR:g}",
        dev=dev_by_minute(story.log),
    )
    with named(page):
        page.write_text(html, encoding="utf-8")
