"""Faults of accesses to shared and global memory, which name threads, argument and byte.

Accesses come as ``rows`` of some width and ``[accesses, width]`` marks of the bytes at fault, as in ``races``.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from lisa_kernels.testing.ptx.buffers import Region
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.shared import SharedMemory


def race(
    verb: str, memory: Region | SharedMemory, rows: np.ndarray, conflict: np.ndarray, lanes: np.ndarray
) -> NoReturn:
    """Raise the fault of an access that another one is not ordered with."""
    who = "another block or warp" if isinstance(memory, Region) else "another warp"
    detail = f"this thread {verb} {who} accesses, and nothing orders the two"
    meets_atomic = memory.history.atomic.reshape(-1, conflict.shape[1])[rows].any()
    if isinstance(memory, Region) and verb.startswith("reads") and meets_atomic:
        detail += " (exempt= lets plain reads meet atomics)"
    fail(_race_kind(memory), detail, memory, rows, conflict, lanes)


def two_values(memory: Region | SharedMemory, rows: np.ndarray, lost: np.ndarray, lanes: np.ndarray) -> NoReturn:
    """Raise the fault of a store after which it matters which lane wins."""
    detail = "two threads store different values in one byte by one instruction"
    fail(_race_kind(memory), detail, memory, rows, lost, lanes)


def fail(
    kind: str, detail: str, memory: Region | SharedMemory, rows: np.ndarray, bad: np.ndarray, lanes: np.ndarray
) -> NoReturn:
    """Raise a fault at the first byte marked in ``bad``."""
    width = bad.shape[1]
    first = np.nonzero(bad.any(1))[0]
    offset = int(rows[first[0]]) * width + int(np.nonzero(bad[first[0]])[0][0])
    threads = tuple(lanes[first].tolist())
    if not isinstance(memory, Region):
        raise PtxError(kind, f"{detail} (shared memory, byte {offset})", threads=threads, offset=offset)
    buffer, offset = memory.describe(memory.base + offset)
    raise PtxError(kind, f"{detail} ({buffer}, byte {offset})", threads=threads, buffer=buffer, offset=offset)


def check_alignment(addresses: np.ndarray, width: int, lanes: np.ndarray) -> None:
    """Raise a fault if an address is no multiple of a width that is a power of two."""
    if not width & (width - 1):
        odd = addresses & (width - 1) != 0
        if odd.any():
            raise PtxError(
                "misaligned", f"{width} bytes at address {int(addresses[odd][0]):#x}, no multiple of {width}",
                threads=tuple(lanes[odd].tolist()),
            )  # fmt: skip


def _race_kind(memory: Region | SharedMemory) -> str:
    return "global race" if isinstance(memory, Region) else "shared race"
