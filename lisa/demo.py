"""The demo: fetch data, compare losses on the same steps, train, judge, transcribe, and write one page about it."""

import hashlib
import platform
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

import lisa_kernels
from lisa import asterisk, checkpoint, compare, data, figures, report, synthetic
from lisa.builders import build_model, parameter_count
from lisa.config import Config
from lisa.data import Sample
from lisa.errors import InputError
from lisa.model import LISA
from lisa.progress import read_log
from lisa.steps import load_samples
from lisa.tasks import alignment, asr
from lisa.text import CLASSES
from lisa.train import train

COMPARED_STEPS = 16
TRAINING_S = 290.0  # Beside it, fetching, comparing and judging take about a minute and a half on 2 cores.
SHOWN_CLIPS = 3


@dataclass
class Clock:
    """Seconds by stage of the demo."""

    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str):
        """Print the stage's name and keep its time."""
        print(f"== {name}", flush=True)
        began = time.perf_counter()
        yield
        self.stages[name] = time.perf_counter() - began


def demo(config: Config, run: Path, *, source: Path | None = None) -> Path | None:
    """Run everything into folder ``run`` and return the path of its ``report.html``, or None after Ctrl-C.

    An earlier demo in ``run`` is replaced. The number of training steps is lowered on a slow machine so that training
    ends in about ``TRAINING_S``.

    Raises:
        InputError: no data to be had, a loss that did not run or lies beyond its bound, or a ``run`` folder in use by
            something else.
    """
    made_up = config.data.source == "synthetic"
    _clear(run)
    clock = Clock()
    with clock.stage("data"):
        about = {"name": synthetic.NOTE} if made_up else _data(Path(config.data.folder), source)
        parts = {split: load_samples(config, split) for split in ("train", "dev", "test")}
        print("  ".join(f"{name} {len(part)} prompts" for name, part in parts.items()))
    with clock.stage("the same training steps with each CTC loss"):
        compared = compare.compare(config, run / "compare", steps=COMPARED_STEPS)
        print("\n".join(report.compare_lines(compared)))
    with clock.stage("training"):
        _fit_to_time(config, compared)
        outcome = train(config, run / "training")
    if outcome.interrupted:
        print(f"interrupted: 'lisa train --run {run / 'training'} --resume' goes on from step {outcome.step}")
        return None
    with clock.stage("held-out prompts"):
        best = checkpoint.resolve(run / "training")
        model = build_model(config)
        checkpoint.load_model(best, model)
        model.eval()
        answers = asr.constant_answers([sample.text for sample in parts["train"]])
        scores = judge(model, config, parts["test"], answers)
        print("\n".join(report.score_lines(scores, made_up=made_up)))
    with clock.stage("three held-out clips"):
        clips = shown_clips(parts["test"])
        heard = asr.transcribe(model, config, clips)
        for clip, text in zip(clips, heard, strict=True):
            print(f"{clip.id}\n  said:  {clip.text}\n  heard: {text}")
    with clock.stage("report"):
        rows = read_log(run / "training" / "log.jsonl")
        mel, occupied, _ = figures.occupancy(model, config, clips[0])
        spans = alignment.characters(model, config, clips[0])
        story = report.Story(
            config=config,
            about=about,
            parts={name: _size(part) for name, part in parts.items()},
            compared=compared,
            scores=scores,
            clips=[report.clip_row(clip, text) for clip, text in zip(clips, heard, strict=True)],
            words=alignment.words(spans),
            log=rows,
            pictures={
                "training": figures.training(rows, constant_cer=_constant_cer(answers, parts["dev"])),
                "compare": figures.side_by_side(compared),
                "alignment": figures.alignment(mel, occupied, spans),
            },
            facts={
                "parameters": f"{parameter_count(model):,}",
                "best step": f"{checkpoint.read(best)['step']} of {config.train.steps}",
                "ctc_loss runs on": f"backend {_ctc_backend()} of lisa_kernels {lisa_kernels.__version__}",
                "torch": torch.__version__,
                "threads": str(torch.get_num_threads()),
                "machine": f"{platform.machine()}, {platform.system()}",
            },
            stages=clock.stages,
        )
        page = run / "report.html"
        report.write(page, story)
    if found := faults(compared, built=_ctc_backend() == "cpu"):
        raise InputError(f"demo: {'; '.join(found)}. See {page}.")
    return page


def faults(compared: list[dict], *, built: bool) -> list[str]:
    """Return what is wrong with each loss that did not run or whose curve lies beyond the bound.

    Without the native build (``built``) the ``cpu`` loss cannot run: the page says so, and it is no fault.
    """
    failed = [row for row in compared if "reason" in row and (built or row["name"] != "cpu")]
    return [f"loss {row['name']} did not run ({row['reason']})" for row in failed] + [
        f"the loss curve of {row['name']} lies beyond the bound" for row in compared if row.get("equal") is False
    ]


def _clear(run: Path) -> None:
    if not run.exists() or not any(run.iterdir()):
        return
    if not (run / "compare" / "config.json").is_file():
        raise InputError(f"demo: folder {run} holds something else than a demo. Name another folder with --run.")
    print(f"replacing the earlier demo in {run}")
    for part in ("compare", "training"):
        shutil.rmtree(run / part, ignore_errors=True)
    (run / "report.html").unlink(missing_ok=True)


def _ctc_backend() -> str | None:
    one = torch.ones(1, dtype=torch.int64)
    return lisa_kernels.explain("ctc_loss", torch.zeros(4, 1, CLASSES), one[:, None], 4 * one, one).chosen


def _data(folder: Path, source: Path | None) -> dict:
    if not (folder / "manifest.json").is_file():
        asterisk.get(folder, source=source)
    return data.manifest(folder)


def _fit_to_time(config: Config, compared: list[dict]) -> None:
    step_s = [min(row["step_s"]) for row in compared if row["name"] in ("torch", "cpu") and "step_s" in row]
    if not step_s:
        raise InputError(f"demo: no variant could run: {[row.get('reason') for row in compared]}. See the reasons.")
    affordable = int(TRAINING_S / (1.1 * min(step_s)))  # A tenth for validation and making batches.
    if affordable < config.train.steps:
        print(f"this machine takes {min(step_s):.2f} s a step: {affordable} steps instead of {config.train.steps}")
        config.train.steps = max(affordable, 1)
        config.train.warmup = min(config.train.warmup, config.train.steps // 4)


def judge(model: LISA, config: Config, test: list[Sample], answers: dict[str, str]) -> dict[str, dict[str, asr.Scores]]:
    """Return the scores of the model and of constant answers, over all prompts and over those of 4 words or more."""
    heard = asr.transcribe(model, config, test)
    scores = {}
    for name, least in (("all prompts", 1), ("prompts of 4 words or more", 4)):
        pairs = [
            (sample.text, text) for sample, text in zip(test, heard, strict=True) if len(sample.text.split()) >= least
        ]
        if not pairs:
            continue
        references, hypotheses = (list(column) for column in zip(*pairs, strict=True))
        scores[name] = {"model": asr.score(references, hypotheses), **asr.score_constants(answers, references)}
    return scores


def _constant_cer(answers: dict[str, str], dev: list[Sample]) -> float:
    return min(row.cer for row in asr.score_constants(answers, [sample.text for sample in dev]).values())


def shown_clips(samples: list[Sample]) -> list[Sample]:
    """Return three clips of 4 to 12 words (if there are such), chosen by the hash of their names, not by result."""
    fitting = [sample for sample in samples if 4 <= len(sample.text.split()) <= 12] or samples
    return sorted(fitting, key=lambda sample: hashlib.sha256(sample.id.encode()).digest())[:SHOWN_CLIPS]


def _size(part: list[Sample]) -> dict:
    return {
        "prompts": len(part),
        "minutes": sum(sample.seconds for sample in part) / 60,
        "words": sum(len(sample.text.split()) for sample in part),
    }
