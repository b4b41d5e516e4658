"""What one run is made of, as dataclasses.

``settings.py`` lays YAML files and ``a.b=c`` settings over them. Named starting points (presets) are functions in
``builders.py`` that return a ``Config``.
"""

from dataclasses import dataclass, field


@dataclass
class DataConfig:
    """Where samples come from and how they are batched; ``source`` is asterisk or synthetic."""

    source: str = "asterisk"
    folder: str = "data/asterisk"
    max_seconds: float = 20.0
    batch_seconds: float = 16.0
    seed: int = 1


@dataclass
class AugmentConfig:
    """Changes made to training samples only: playing speeds drawn from, SpecAugment masks."""

    speeds: list[float] = field(default_factory=lambda: [0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15])
    time_masks_per_s: float = 1.5
    mels_masked: int = 15


@dataclass
class TowerConfig:
    """One modality's encoder: a stem and ``depth`` pre-norm blocks; ``kernel`` 0 leaves convolutions out."""

    stem: str = "mel"
    inputs: int = 80
    width: int = 144
    depth: int = 5
    heads: int = 3
    expansion: int = 4
    kernel: int = 15
    dropout: float = 0.15


@dataclass
class HeadConfig:
    """One output: which head, on which tower."""

    kind: str = "ctc"
    tower: str = "speech"


@dataclass
class ModelConfig:
    """Towers by modality and heads by objective."""

    towers: dict[str, TowerConfig] = field(default_factory=dict)
    heads: dict[str, HeadConfig] = field(default_factory=dict)


@dataclass
class TrainConfig:
    """Optimisation and bookkeeping; steps, warm-up and intervals count optimizer steps."""

    steps: int = 2000
    lr: float = 2e-3
    warmup: int = 150
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 1
    validate_every: int = 150
    checkpoint_every: int = 150
    keep: int = 2


@dataclass
class Config:
    """A whole run. ``objectives`` are weights by name; the total loss is their weighted sum."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objectives: dict[str, float] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
