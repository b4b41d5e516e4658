"""The demo's page: one HTML file without any outside resource, and the same tables as lines of text."""

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import jiwer
import soundfile

from lisa import synthetic
from lisa.compare import BOUND_FACTOR, VARIANTS
from lisa.config import Config
from lisa.data import Sample
from lisa.tasks.asr import Scores


def compare_lines(rows: list[dict]) -> list[str]:
    """Return the comparison as text, one line a variant."""
    lines = []
    for row in rows:
        if "reason" in row:
            lines.append(f"{VARIANTS[row['name']]}: did not run: {row['reason']}")
            continue
        peak = "?" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"
        verdict = "equal" if row.get("equal") else "DIFFERS"
        lines.append(
            f"{VARIANTS[row['name']]}: last loss {row['losses'][-1]:.6f} ({verdict})  step {row['step_s'] * 1e3:.0f} ms"
            f"  loss alone {row['loss_s'] * 1e3:.2f} ms  peak memory {peak} MiB"
            f"  loss alone {row['loss_bytes'] / 2**20:.2f} MiB"
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
    soundfile.write(buffer, clip.speech.numpy(), 16_000, format="FLAC")
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


def write(page: Path, *, config: Config, log: list[dict], **content: Any) -> None:
    """Write the page; ``content`` goes to the template ``report.html`` as it is."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    html = environment.get_template("report.html").render(
        config=config,
        made_up=synthetic.NOTE if config.data.source == "synthetic" else "",
        variants=VARIANTS,
        bound_factor=f"{BOUND_FACTOR:g}",
        dev=dev_by_minute(log),
        **content,
    )
    page.write_text(html, encoding="utf-8")
