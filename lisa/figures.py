"""The report's pictures, as PNG in base64."""

import base64
import io

import matplotlib
import torch
from torch import Tensor

import lisa_kernels
from lisa.collate import collate
from lisa.config import Config
from lisa.data import Sample
from lisa.model import LISA
from lisa.tasks.alignment import FRAME_S, Span, words
from lisa.tasks.asr import mels_of
from lisa.text import BLANK, CHARACTERS

matplotlib.use("Agg")

from matplotlib import pyplot as plt

COLOURS = {"torch64": "#888888", "torch": "#1f6fb4", "reference": "#2a9d5c", "cpu": "#d1495b"}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def training(rows: list[dict], *, constant_cer: float) -> str:
    """Return the training loss and the dev character error rate over minutes; ``rows`` are those of the run's log."""
    minutes, elapsed, losses, dev = [], 0.0, [], []
    for row in rows:
        if "loss" in row:
            elapsed += row["seconds"] / 60
            minutes.append(elapsed)
            losses.append(row["loss"])
        else:
            dev.append((elapsed, row["dev_cer"]))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
        left.plot(minutes, losses, color="#1f6fb4", alpha=0.25, linewidth=0.8)
        left.plot(minutes, _smoothed(losses), color="#1f6fb4", label="CTC loss, mean of 25 steps")
        left.set(xlabel="minutes of training", ylabel="nats per label", ylim=(0, None))
        left.legend()
        right.plot(*zip(*dev, strict=True), color="#d1495b", marker="o", markersize=4, label="model, dev part")
        right.axhline(constant_cer, color="#888888", linestyle="--", label="best constant answer, dev part")
        right.set(xlabel="minutes of training", ylabel="character error rate", ylim=(0, 1.1))
        right.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        right.legend()
        return _png(figure)


def _smoothed(values: list[float], width: int = 25) -> list[float]:
    return [sum(values[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(values))]


def side_by_side(rows: list[dict]) -> str:
    """Return the compared loss curves and how far each lies from the fp64 curve."""
    curves = {row["name"]: row["losses"] for row in rows if "losses" in row}
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.0), layout="constrained")
        for place, (name, losses) in enumerate(curves.items()):
            steps = range(1, len(losses) + 1)
            # Equal curves hide each other: the earlier ones are drawn wider.
            left.plot(steps, losses, color=COLOURS[name], linewidth=7 - 1.8 * place, alpha=0.8, label=name)
            if name != "torch64" and "torch64" in curves:
                gaps = [max(abs(a - b), 1e-9) for a, b in zip(losses, curves["torch64"], strict=True)]
                right.plot(steps, gaps, color=COLOURS[name], marker="o", markersize=3, label=name)
        bounds = [row["bound"] for row in rows if "bound" in row]
        if bounds:
            right.axhline(bounds[0], color="#444444", linestyle="--", linewidth=1, label="bound")
        left.set(xlabel="step", ylabel="CTC loss, nats per label")
        right.set(xlabel="step", ylabel="distance from fp64", yscale="log")
        left.legend()
        if right.lines:
            right.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return _png(figure)


def occupancy(model: LISA, config: Config, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-mel ``[frames, mels]``, occupancy ``[T, C]`` and softmax ``[T, C]`` of one clip with its own text.

    The gradient of the summed CTC loss on the logits is softmax minus occupancy (Graves et al. 2006, eq. 16), so the
    op itself says how likely each class is at each frame given the text.
    """
    batch = collate([sample], mels=mels_of(config))
    with torch.no_grad():
        scores = model(batch)["ctc"]
    logits = scores.values.transpose(0, 1).clone().requires_grad_()
    targets = batch.targets
    loss = lisa_kernels.ctc_loss(logits, targets.values, scores.lengths, targets.lengths, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    probability = logits.detach().softmax(-1)
    return batch.inputs["speech"].values[0], (probability - gradient)[:, 0], probability[:, 0]


def alignment(mel: Tensor, occupied: Tensor, spans: list[Span]) -> str:
    """Return the log-mel of a clip above the occupancy of its characters, on one time axis, aligned words marked.

    ``spans`` are those of the clip's characters (``tasks.alignment.characters``).
    """
    seconds = mel.shape[0] / 100
    used = sorted({span.text for span in spans}, key=CHARACTERS.index)
    rows = [BLANK, *(CHARACTERS.index(character) + 1 for character in used)]
    names = ["blank", *("space" if character == " " else character for character in used)]
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(10, 6.2), sharex=True, layout="constrained", height_ratios=[1, 1.5]
        )
        top.imshow(mel.t().numpy(), origin="lower", aspect="auto", extent=(0, seconds, 0, mel.shape[1]), cmap="magma")
        top.set(ylabel="mel band", title=f"“{''.join(span.text for span in spans)}”")
        for word in words(spans):
            height = mel.shape[1] * 0.84
            top.plot((word.start_s, word.end_s), (height, height), color="white", marker="|", linewidth=1.5)
            top.text((word.start_s + word.end_s) / 2, height * 1.03, word.text, color="white", ha="center", va="bottom")
        shown = occupied[:, rows].t().clamp(0, 1).numpy()
        extent = (0, occupied.shape[0] * FRAME_S, len(rows) - 0.5, -0.5)
        picture = bottom.imshow(shown, aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1)
        for span in spans:
            row = rows.index(CHARACTERS.index(span.text) + 1)
            bottom.plot((span.start_s, span.end_s), (row, row), color="#d1495b", linewidth=3, solid_capstyle="butt")
        bottom.set(xlabel="seconds", ylabel="class", yticks=range(len(rows)), yticklabels=names, xlim=(0, seconds))
        figure.colorbar(picture, ax=bottom, label="occupancy", pad=0.01)
        return _png(figure)


def _png(figure: plt.Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
