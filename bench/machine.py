"""The machine a benchmark runs on: its name and load, the commit, the allocator."""

from __future__ import annotations

import ctypes
import os
import pathlib
import platform
import subprocess

import torch

_ROOT = pathlib.Path(__file__).resolve().parent.parent

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

# Above this share of the cores somebody else's work is in the figures.
_BUSY = 0.5


def fix_allocator() -> str:
    """Let malloc keep freed memory, and return in words what was done or why not.

    A fresh 32 MB tensor costs its page faults, a recycled one none: with the default settings times come out bimodal.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "allocator: unchanged, this C library has no mallopt; times of large outputs may be bimodal"
    if not (mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)):
        return "allocator: unchanged, mallopt refused; times of large outputs may be bimodal"
    return "allocator: freed memory is kept (mallopt M_MMAP_MAX=0, M_TRIM_THRESHOLD=2^31-1)"


def describe_load() -> str:
    """Return the load averages in words, with a warning where others compete for the cores."""
    loads, cores = os.getloadavg(), os.cpu_count() or 1
    text = f"load: {' '.join(f'{load:.2f}' for load in loads)} on {cores} cores"
    if loads[0] > _BUSY * cores:
        return f"{text}\nWARNING: the machine is busy: wall times of short calls are unsure; try --one-thread"
    return text


def name_machine(device: torch.device) -> str:
    """Return the model of the processor or GPU that computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def find_commit() -> str:
    """Return the short commit of the working tree, ``-dirty`` with changes, or ``unknown`` outside of git."""
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
