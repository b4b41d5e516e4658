"""The training loop: steps, validation, checkpoints; resumed runs give the same bits as uninterrupted ones."""

import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lisa import checkpoint, synthetic
from lisa.builders import build_model
from lisa.config import Config
from lisa.data import Sample
from lisa.errors import InputError
from lisa.model import LISA
from lisa.progress import Log, Progress
from lisa.randomness import random_state, restore_random_state, seed_all
from lisa.settings import difference
from lisa.steps import batch_at, load_samples, make_optimizer, take_step
from lisa.tasks import asr


@dataclass(frozen=True)
class Outcome:
    """How a call to ``train`` ended."""

    step: int
    checkpoint: Path
    interrupted: bool


def train(config: Config, run: Path, *, resume: bool = False, stop_at: int | None = None) -> Outcome:
    """Train up to ``config.train.steps`` (or ``stop_at``) and return where it stands.

    Ctrl-C finishes the step, saves and returns with ``interrupted``.

    Raises:
        InputError: ``run`` holds checkpoints and ``resume`` is off, or they are of another config; and what loading
            and stepping refuse.
    """
    model = build_model(config)
    optimizer = make_optimizer(config, model)
    first, best = _start(config, run, model, optimizer, resume)
    train_set, dev_set = load_samples(config, "train"), load_samples(config, "dev")
    seconds = [sample.seconds for sample in train_set]
    last = min(config.train.steps, stop_at or config.train.steps)
    note = synthetic.NOTE if config.data.source == "synthetic" else ""

    stop_asked: list[bool] = []
    # Python lets only the main thread take signals; elsewhere Ctrl-C is the caller's to handle.
    takes_signals = threading.current_thread() is threading.main_thread()
    log = Log(run / "log.jsonl", step=first)  # May fail, so before the handler is set and the bar is drawn.
    previous = signal.signal(signal.SIGINT, lambda *_: _on_interrupt(stop_asked)) if takes_signals else None
    progress = Progress(config.train.steps, first, note=note)
    saved, step = first if resume else -1, first
    try:
        model.train()
        while step < last and not stop_asked:
            began = time.perf_counter()
            batch = batch_at(config, train_set, seconds, step)
            terms, norm = take_step(config, model, optimizer, batch, step)
            step += 1
            loss = sum(config.objectives[name] * value for name, value in terms.items())
            took_s = time.perf_counter() - began
            log.write({"step": step, "loss": loss, "terms": terms, "norm": norm, "seconds": took_s})
            progress.update(step, loss)
            if step % config.train.validate_every == 0 or step == config.train.steps:
                error = _validate(model, config, dev_set, step, progress, log)
                if best is None or error < best["error"]:
                    best, saved = {"step": step, "error": error}, step
                    _save(config, run, step, best, model, optimizer)
            if saved != step and step % config.train.checkpoint_every == 0:
                saved = step
                _save(config, run, step, best, model, optimizer)
        if saved != step:
            _save(config, run, step, best, model, optimizer)
        return Outcome(step, run / f"step-{step:07d}", bool(stop_asked))
    finally:
        if takes_signals:
            signal.signal(signal.SIGINT, previous)
        progress.close()
        log.close()


def _on_interrupt(stop_asked: list[bool]) -> None:
    if stop_asked:
        raise KeyboardInterrupt
    stop_asked.append(True)


def _start(
    config: Config, run: Path, model: LISA, optimizer: torch.optim.Optimizer, resume: bool
) -> tuple[int, dict | None]:
    found = checkpoint.steps(run)
    if not resume:
        if found:
            raise InputError(
                f"train: run folder {run} holds checkpoints up to {found[-1].name}. Add --resume to go on, or name "
                "another folder with --run."
            )
        seed_all(config.train.seed)
        return 0, None
    if not found:
        raise InputError(f"train: run folder {run} holds no checkpoint to resume. Leave --resume out, or check --run.")
    state = checkpoint.read(found[-1])
    differing = difference(state["config"], asdict(config))
    if differing:
        raise InputError(
            f"train: checkpoint {found[-1]} is of another config ({'; '.join(differing[:3])}). Resume with its own "
            "config (leave --preset, --set and the file out), or start a new run."
        )
    checkpoint.load_model(found[-1], model)
    checkpoint.load_optimizer(found[-1], model, optimizer)
    restore_random_state(state["random"])
    return state["step"], state["best"]


def _validate(model: LISA, config: Config, dev: list[Sample], step: int, progress: Progress, log: Log) -> float:
    scores = asr.score([sample.text for sample in dev], asr.transcribe(model, config, dev))
    log.write({"step": step, "dev_cer": scores.cer, "dev_wer": scores.wer, "dev_prompts": scores.prompts})
    progress.say(f"step {step}  dev CER {scores.cer:.1%}  WER {scores.wer:.1%}")
    return scores.cer


def _save(
    config: Config, run: Path, step: int, best: dict | None, model: LISA, optimizer: torch.optim.Optimizer
) -> None:
    state = {"config": asdict(config), "random": random_state(), "best": best}
    checkpoint.save(run, step, model, optimizer, state)
    checkpoint.prune(run, keep=config.train.keep)
