"""The devices kernels are tuned and compiled for."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import torch

_forced: contextvars.ContextVar[Target | None] = contextvars.ContextVar("forced_target", default=None)


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of device.

    Attributes:
        name: Key of the rows in every ``tiles.py``.
        backend: Triton's compiler backend, ``"cuda"`` or ``"hip"``; None for the interpreter.
        arch: Compute capability times ten, or AMD's name.
        warp_size: Lanes of a warp.
        shared_bytes: Shared memory one block can use.
    """

    name: str
    backend: str | None
    arch: int | str | None
    warp_size: int
    shared_bytes: int


# Shared memory: CUDA C++ Programming Guide, table of technical specifications; CDNA3 ISA guide, LDS.
TARGETS = {
    target.name: target
    for target in (
        Target("sm_80", "cuda", 80, 32, 163 * 1024),
        Target("sm_90", "cuda", 90, 32, 227 * 1024),
        Target("sm_100", "cuda", 100, 32, 227 * 1024),
        Target("sm_120", "cuda", 120, 32, 99 * 1024),
        Target("gfx942", "hip", "gfx942", 64, 64 * 1024),
        # For tests: its timings are never reported.
        Target("interp", None, None, 32, 1 << 30),
    )
}
GPUS = tuple(target.name for target in TARGETS.values() if target.backend)


def current_target(device: torch.device) -> Target:
    """Return the target that ``device`` is, or the nearest older one with the same instructions.

    Inside ``force_target`` it is that one, whatever the device.

    Raises:
        RuntimeError: No known target fits the device.
    """
    if (forced := _forced.get()) is not None:
        return forced
    if device.type == "cpu":
        return TARGETS["interp"]
    if torch.version.hip:
        name = torch.cuda.get_device_properties(device).gcnArchName.split(":")[0]
    else:
        major, minor = torch.cuda.get_device_capability(device)
        # sm_86 and sm_89 run sm_80 rows; 103 runs 100; 121 runs 120.
        name = f"sm_{major}0" if major >= 8 else f"sm_{major}{minor}"
    if name not in TARGETS:
        raise RuntimeError(f"current_target: {device} is {name}; known are {', '.join(TARGETS)}.")
    return TARGETS[name]


@contextlib.contextmanager
def force_target(name: str) -> Iterator[Target]:
    """Make ``current_target`` return the named target in the block: host code then launches what it would launch there.

    Raises:
        ValueError: The name is no key of ``TARGETS``.
    """
    if name not in TARGETS:
        raise ValueError(f"force_target: name is {name!r}; it takes {', '.join(TARGETS)}.")
    token = _forced.set(TARGETS[name])
    try:
        yield TARGETS[name]
    finally:
        _forced.reset(token)
