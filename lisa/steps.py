"""One optimizer step: which samples, which rate, forward, backward, update."""

import math

import torch
from torch import Tensor, nn

from lisa import data, synthetic
from lisa.collate import collate
from lisa.config import Config
from lisa.data import Batch, Sample
from lisa.errors import InputError
from lisa.model import LISA
from lisa.objectives import OBJECTIVES, Objective, total
from lisa.tasks.asr import mels_of


def load_samples(config: Config, split: str) -> list[Sample]:
    """Return the samples of train, dev or test from the config's source.

    Raises:
        InputError: an unknown source, or what ``data.read`` refuses.
    """
    if config.data.source == "synthetic":
        return synthetic.samples(split, seed=config.data.seed)
    if config.data.source == "asterisk":
        return data.read(config.data.folder, split, max_seconds=config.data.max_seconds)
    raise InputError(f"load_samples: data.source is {config.data.source!r}; it takes asterisk or synthetic.")


def batch_at(config: Config, samples: list[Sample], seconds: list[float], step: int) -> Batch:
    """Return the augmented training batch of optimizer step ``step`` (from 0): a pure function of its arguments."""
    places = data.indices_at(seconds, step, batch_seconds=config.data.batch_seconds, seed=config.train.seed)
    chosen = [samples[place] for place in places]
    return collate(chosen, mels=mels_of(config), augment=config.augment, seed=config.train.seed, step=step)


def learning_rate(config: Config, step: int) -> float:
    """Return the rate of optimizer step ``step``: linear warm-up, then half a cosine down to 1 % of the peak."""
    options = config.train
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(options.steps - options.warmup, 1)
    return options.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def make_optimizer(config: Config, model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW; norms and biases (vectors) are not decayed."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    kept = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.train.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.train.lr, betas=(0.9, 0.98))


def take_step(
    config: Config,
    model: LISA,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    *,
    objectives: dict[str, Objective] = OBJECTIVES,
) -> tuple[dict[str, float], float]:
    """Do one optimizer step and return the loss terms and the gradient norm before clipping.

    Raises:
        InputError: a term or the gradient is not finite (names it and the batch's samples), or no objective applies.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    optimizer.zero_grad(set_to_none=True)
    loss, terms = total(model(batch), batch, config.objectives, objectives=objectives)
    if loss is None:
        raise InputError(f"take_step: no objective of {list(config.objectives)} applies to samples {list(batch.ids)}.")
    for name, term in terms.items():
        _check_finite(name, term.detach(), batch, step)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.train.clip)
    _check_finite("gradient", norm, batch, step)
    optimizer.step()
    return {name: float(term.detach()) for name, term in terms.items()}, float(norm)


def _check_finite(name: str, value: Tensor, batch: Batch, step: int) -> None:
    if not torch.isfinite(value):
        raise InputError(
            f"take_step: term {name} is {float(value)} at step {step} on samples {list(batch.ids)}; it takes finite "
            "numbers. Lower train.lr or leave these samples out; the last checkpoint is untouched."
        )
