"""Configs to modules, and the presets: functions that hold the numbers."""

import difflib

import torch
from torch import nn

from lisa import text
from lisa.blocks import Block, Mixing
from lisa.config import Config, HeadConfig, TowerConfig
from lisa.errors import InputError
from lisa.heads import CTCHead
from lisa.model import LISA
from lisa.towers import MelStem, Tower


def asr_tiny() -> Config:
    """Speech recogniser for the demo: about 1.7 M parameters, minutes of training on 2 cores."""
    config = Config()
    config.model.towers = {"speech": TowerConfig()}
    config.model.heads = {"ctc": HeadConfig(kind="ctc", tower="speech")}
    config.objectives = {"ctc": 1.0}
    return config


def asr_test() -> Config:
    """Smallest recogniser that still learns the synthetic data: for tests and for trying the plumbing."""
    config = asr_tiny()
    config.data.source = "synthetic"
    config.data.batch_seconds = 8.0
    config.model.towers = {"speech": TowerConfig(inputs=40, width=32, depth=1, heads=1, kernel=7, dropout=0.1)}
    config.train.steps, config.train.warmup = 20, 5
    config.train.validate_every = config.train.checkpoint_every = 10
    return config


PRESETS = {"asr-tiny": asr_tiny, "asr-test": asr_test}
STEMS = {"mel": MelStem}
HEADS = {"ctc": lambda width: CTCHead(width, text.CLASSES)}


def preset(name: str) -> Config:
    """Return a fresh config by name.

    Raises:
        InputError: no such preset; the message names the nearest.
    """
    return _look_up(PRESETS, name, "preset")()


def build_model(config: Config) -> LISA:
    """Return the model of ``config`` with weights drawn from ``train.seed``; the caller's random state is kept."""
    if not config.model.heads:
        raise InputError("build_model: model.heads is empty; it takes at least one head. Start from --preset asr-tiny.")
    for name, head in config.model.heads.items():
        if head.tower not in config.model.towers:
            known = ", ".join(config.model.towers) or "none"
            raise InputError(f"build_model: model.heads.{name}.tower is {head.tower!r}; it takes a tower: {known}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        towers = {name: build_tower(name, tower) for name, tower in config.model.towers.items()}
        heads = {
            name: _look_up(HEADS, head.kind, f"model.heads.{name}.kind")(config.model.towers[head.tower].width)
            for name, head in config.model.heads.items()
        }
    return LISA(towers, heads, reads={name: head.tower for name, head in config.model.heads.items()})


def build_tower(name: str, tower: TowerConfig) -> Tower:
    """Return the tower of one modality.

    Raises:
        InputError: an unknown stem, or sizes that do not fit together.
    """
    head_dim, rest = divmod(tower.width, tower.heads)
    if rest or head_dim % 8 or not 32 <= head_dim <= 256:
        raise InputError(
            f"build_tower: model.towers.{name}.width is {tower.width} with {tower.heads} heads; it takes a multiple of "
            f"8 x heads = {8 * tower.heads}, of 32 to 256 a head."
        )
    if tower.kernel and tower.kernel % 2 == 0:
        raise InputError(f"build_tower: model.towers.{name}.kernel is {tower.kernel}; it takes an odd number, or 0.")
    stem = _look_up(STEMS, tower.stem, f"model.towers.{name}.stem")(tower.inputs, tower.width)
    mixing = Mixing(tower.heads, head_dim)
    blocks = [
        Block(tower.width, mixing.policy, expansion=tower.expansion, kernel=tower.kernel, dropout=tower.dropout)
        for _ in range(tower.depth)
    ]
    return Tower(stem, mixing, blocks, width=tower.width, dropout=tower.dropout)


def parameter_count(model: nn.Module) -> int:
    """Return the number of trained numbers in ``model``."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _look_up(table: dict, name: str, what: str):
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.3)
        mend = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{what} is {name!r}; it takes {', '.join(sorted(table))}.{mend}")
    return table[name]
