"""YAML files and ``a.b=c`` settings laid over a config; unknown keys are refused, the nearest known one named."""

import dataclasses
import difflib
import math
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lisa.config import Config
from lisa.errors import InputError


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: missing file, broken YAML, or no mapping at the top.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"read_yaml: {path} cannot be read ({error}); it takes a YAML file. Check the path."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"read_yaml: {path} is not YAML ({error}). Mend the line it names.") from error
    if not isinstance(values or {}, dict):
        raise InputError(f"read_yaml: {path} holds a {type(values).__name__}; it takes a mapping such as 'train: ...'.")
    return values or {}


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return ``["train.steps=20"]`` as ``{"train": {"steps": 20}}``; values are read as YAML."""
    values: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise InputError(f"parse_settings: {setting!r} is no setting; it takes key.key=value, as train.steps=20.")
        place = values
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        try:
            place[keys[-1]] = yaml.safe_load(value)
        except (yaml.YAMLError, TypeError) as error:
            raise InputError(
                f"parse_settings: {setting!r} cannot be read ({error}); it takes key.key=value."
            ) from error
    return values


def merge(config: Config, values: dict[str, Any]) -> Config:
    """Return ``config`` with ``values`` laid over it.

    Raises:
        InputError: an unknown key (the message names the nearest known one), a wrong type, or a missing value.
    """
    _check_keys(values, Config, "")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config), values)
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        raise InputError(f"config: {key} {str(error).splitlines()[0]}. Give a value of that type.") from error
    _check_values(result)
    return result


def _check_keys(values: Any, kind: Any, path: str) -> None:
    if get_origin(kind) is dict and isinstance(values, dict):
        for key, value in values.items():
            _check_keys(value, get_args(kind)[1], f"{path}{key}.")
    if not dataclasses.is_dataclass(kind):
        return
    if not isinstance(values, dict):
        raise InputError(f"config: {path.rstrip('.')} is {values!r}; it takes a mapping of {_names(kind)}.")
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.5)
            mend = f"Did you mean {path}{near[0]}?" if near else "Remove the line."
            raise InputError(f"config: unknown key {path}{key}; it takes {_names(kind)}. {mend}")
        _check_keys(value, hints[key], f"{path}{key}.")


def _names(kind: type) -> str:
    return ", ".join(item.name for item in dataclasses.fields(kind))


def _check_values(config: Config) -> None:
    positive = {
        "train.steps": config.train.steps,
        "train.lr": config.train.lr,
        "train.validate_every": config.train.validate_every,
        "train.checkpoint_every": config.train.checkpoint_every,
        "train.keep": config.train.keep,
        "train.clip": config.train.clip,
        "data.batch_seconds": config.data.batch_seconds,
        "data.max_seconds": config.data.max_seconds,
    }
    for key, value in positive.items():
        if not value > 0:
            raise InputError(f"config: {key} is {value}; it takes a number above 0.")
    ranges = {
        "train.warmup": (config.train.warmup, 0, math.inf),
        "train.weight_decay": (config.train.weight_decay, 0, math.inf),
        "train.seed": (config.train.seed, 0, 2**32 - 1),
        "data.seed": (config.data.seed, 0, 2**32 - 1),
    }
    for name, tower in config.model.towers.items():
        for key in ("inputs", "width", "heads", "expansion"):
            ranges[f"model.towers.{name}.{key}"] = (getattr(tower, key), 1, math.inf)
        for key in ("depth", "kernel"):
            ranges[f"model.towers.{name}.{key}"] = (getattr(tower, key), 0, math.inf)
        ranges[f"model.towers.{name}.dropout"] = (tower.dropout, 0, 0.99)
    for key, (value, low, high) in ranges.items():
        if not low <= value <= high:
            allowed = f"{low} or more" if high == math.inf else f"{low} to {high}"
            raise InputError(f"config: {key} is {value}; it takes {allowed}.")
    if not config.augment.speeds or any(not 0.5 <= speed <= 2.0 for speed in config.augment.speeds):
        raise InputError(
            f"config: augment.speeds is {config.augment.speeds}; it takes numbers from 0.5 to 2, as [1.0]."
        )


def difference(first: dict[str, Any], second: dict[str, Any], path: str = "") -> list[str]:
    """Return ``key: a is not b`` for each leaf in which two configs, as dicts, differ."""
    lines = []
    for key in sorted({*first, *second}):
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{path}{key}.")
        elif a != b:
            lines.append(f"{path}{key}: {a} is not {b}")
    return lines
