"""Checkpoints that are whole or absent: written beside, flushed, then renamed.

A checkpoint is a folder ``step-0000100`` with ``model.safetensors``, ``optim.safetensors`` and ``state.json`` (config,
step, random state, sizes and SHA-256 of the other two, which step so far had the lowest validation error).
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensors_bytes
from torch import Tensor, nn

from lisa.errors import InputError, named

FORMAT = 1
_NAME = re.compile(r"step-\d{7}")


def save(run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> Path:
    """Write the checkpoint of ``step`` into folder ``run`` and return its path."""
    run.mkdir(parents=True, exist_ok=True)
    final = run / f"step-{step:07d}"
    building = run / f".writing-{step:07d}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    files = {
        "model.safetensors": tensors_bytes({name: value.contiguous() for name, value in model.state_dict().items()}),
        "optim.safetensors": tensors_bytes(_optimizer_tensors(model, optimizer)),
    }
    sizes = {name: len(content) for name, content in files.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    state = {"format": FORMAT, "step": step, "bytes": sizes, "sha256": hashes, **state}
    for name, content in (*files.items(), ("state.json", json.dumps(state).encode())):
        _write_through(building / name, content)
    _sync_folder(building)
    _remove(final)
    building.rename(final)
    _sync_folder(run)
    return final


def prune(run: Path, *, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and the best one."""
    best = _best(run)
    for path in steps(run)[:-keep]:
        if path != best:
            _remove(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint that at no moment looks whole without being so: under another name, with its leftovers."""
    for left in path.parent.glob(".deleting-*"):
        shutil.rmtree(left, ignore_errors=True)
    if path.exists():
        doomed = path.rename(path.parent / f".deleting-{path.name}")
        shutil.rmtree(doomed, ignore_errors=True)


def steps(run: Path) -> list[Path]:
    """Return the whole checkpoints of folder ``run``, oldest first; half-written ones bear other names."""
    return sorted(path for path in run.glob("step-*") if _NAME.fullmatch(path.name) and (path / "state.json").is_file())


def _best(run: Path) -> Path | None:
    """Return the checkpoint with the lowest validation error, as the newest one remembers it."""
    try:
        state = json.loads((steps(run)[-1] / "state.json").read_text(encoding="utf-8"))
        path = run / f"step-{state['best']['step']:07d}"
    except (OSError, IndexError, ValueError, KeyError, TypeError):
        return None
    return path if (path / "state.json").is_file() else None


def resolve(path: Path) -> Path:
    """Return the checkpoint folder that ``path`` means: itself, or the best (else newest) one of a run folder.

    Raises:
        InputError: nothing there.
    """
    if (path / "state.json").is_file():
        return path
    if (best := _best(path)) is not None:
        return best
    found = steps(path) if path.is_dir() else []
    if not found:
        raise InputError(
            f"resolve: {path} holds no checkpoint; it takes a run folder or a step-… folder. "
            "Check the path, or train first: lisa train --run FOLDER."
        )
    return found[-1]


def read(path: Path) -> dict:
    """Return a checkpoint's ``state.json`` after checking that its files are whole.

    Raises:
        InputError: damaged or missing files, or another format.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise InputError(f"read: checkpoint {path} has format {state['format']}; it takes {FORMAT}. Train again.")
        for key in ("step", "config", "random", "best"):
            state[key]
        for name in ("model.safetensors", "optim.safetensors"):
            size, content = state["bytes"][name], (path / name).read_bytes()
            found = len(content)
            if found == size and hashlib.sha256(content).hexdigest() != state["sha256"][name]:
                raise InputError(
                    f"read: checkpoint {path / name} holds other bytes than were written: it is damaged. "
                    "Use another step of the run, or copy it again."
                )
            if found != size:
                raise InputError(
                    f"read: checkpoint {path / name} has {found} bytes; state.json says {size}: it is damaged. "
                    "Use another step of the run, or copy it again."
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"read: checkpoint {path} cannot be read ({type(error).__name__}: {error}). "
            "Use another step of the run, or copy it again."
        ) from error
    return state


def load_model(path: Path, model: nn.Module) -> None:
    """Fill ``model`` from checkpoint ``path``.

    Raises:
        InputError: unreadable weights, or the weights of another architecture (the first difference is named).
    """
    tensors = _read_tensors(path / "model.safetensors")
    own = model.state_dict()
    for name in sorted({*own, *tensors}):
        stored = tuple(tensors[name].shape) if name in tensors else "missing"
        wanted = tuple(own[name].shape) if name in own else "missing"
        if stored != wanted:
            raise InputError(
                f"load_model: checkpoint {path} is of another config: {name} is {stored} in it and {wanted} in the "
                "model. Use the config stored in its state.json."
            )
    model.load_state_dict(tensors)


def load_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fill the optimizer's state from checkpoint ``path``, bit for bit."""
    tensors = _read_tensors(path / "optim.safetensors")
    for name, parameter in model.named_parameters():
        slots = {key.rpartition("|")[2]: value for key, value in tensors.items() if key.startswith(f"{name}|")}
        if slots:
            optimizer.state[parameter] = slots


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}|{slot}": value.contiguous()
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return parse_tensors(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"load: {path} cannot be read ({error}); it takes a safetensors file. Use another step of the run."
        ) from error


def _write_through(path: Path, content: bytes) -> None:
    with named(path), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
