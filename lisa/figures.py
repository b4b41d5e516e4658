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
from lisa.tasks.asr import mels_of
from lisa.text import BLANK, CHARACTERS

matplotlib.use("Agg")

from matplotlib import pyplot as plt

FRAME_S = 0.04  # The mel stem's output rate.
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


def alignment(mel: Tensor, occupied: Tensor, text: str) -> str:
    """Return the log-mel of a clip above the occupancy of its characters, on one time axis, peaks marked."""
    seconds = mel.shape[0] / 100
    used = sorted(set(text), key=CHARACTERS.index)
    rows = [BLANK, *(CHARACTERS.index(character) + 1 for character in used)]
    names = ["blank", *("space" if character == " " else character for character in used)]
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(10, 6.2), sharex=True, layout="constrained", height_ratios=[1, 1.5]
        )
        top.imshow(mel.t().numpy(), origin="lower", aspect="auto", extent=(0, seconds, 0, mel.shape[1]), cmap="magma")
        top.set(ylabel="mel band", title=f"“{text}”")
        shown = occupied[:, rows].t().clamp(0, 1).numpy()
        extent = (0, occupied.shape[0] * FRAME_S, len(rows) - 0.5, -0.5)
        picture = bottom.imshow(shown, aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1)
        for frame, character in _peaks(occupied, text):
            row = rows.index(CHARACTERS.index(character) + 1)
            bottom.plot((frame + 0.5) * FRAME_S, row, marker="|", color="#d1495b", markersize=9, markeredgewidth=2)
            label = "␣" if character == " " else character
            top.text((frame + 0.5) * FRAME_S, mel.shape[1] * 0.93, label, color="white", ha="center", va="top")
        bottom.set(xlabel="seconds", ylabel="class", yticks=range(len(rows)), yticklabels=names, xlim=(0, seconds))
        figure.colorbar(picture, ax=bottom, label="occupancy", pad=0.01)
        return _png(figure)


def _peaks(occupied: Tensor, text: str) -> list[tuple[int, str]]:
    """Return a frame for each character: the monotone choice of frames with the largest sum of occupancies."""
    scores = occupied[:, [CHARACTERS.index(character) + 1 for character in text]].double()
    frames, count = scores.shape
    best = torch.full((frames + 1, count + 1), -torch.inf, dtype=torch.float64)
    best[:, 0] = 0.0
    for frame in range(frames):
        best[frame + 1, 1:] = torch.maximum(best[frame, 1:], best[frame, :-1] + scores[frame])
    chosen, frame = [], frames
    for place in range(count, 0, -1):
        while frame > 1 and best[frame - 1, place] == best[frame, place]:
            frame -= 1
        frame -= 1
        chosen.append((frame, text[place - 1]))
    return chosen[::-1]


def _png(figure: plt.Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
