"""One launch in a process of its own, under the sanitizers; ``csrc/testing/driver.cpp`` is the other side."""

from __future__ import annotations

import ctypes
import pathlib
import struct
import subprocess
import tempfile
from collections.abc import Sequence

from lisa_kernels.testing.cuda.arguments import Memory, Packed, merged, piece_of
from lisa_kernels.testing.cuda.faults import HostFault, from_sanitizer

_FAULT = 3
# What the driver aligns memory to, before it adds the caller's distance from a multiple of it.
_ALIGNMENT = 256


def kernels_of(program: pathlib.Path) -> str:
    """Return the program's list of kernels, one in a line."""
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


def run_sanitized(
    program: pathlib.Path,
    kernel: str,
    packed: Sequence[Packed],
    *,
    memories: Sequence[Memory],
    shape: Sequence[int],
    shared_bytes: int,
    order: tuple[int, int],
    limit_s: int,
) -> None:
    """Run one launch and write back what it left in memory.

    Args:
        program: Built with sanitizers.
        kernel: Its name.
        packed: Its arguments.
        memories: All the memory that pointers in the arguments may point into.
        shape: Grid and block, six sizes.
        shared_bytes: Dynamic shared memory.
        order: Seed (0: in order) and OS threads (0: all).
        limit_s: When the process is ended.

    Raises:
        HostFault: What a sanitizer or the launch reported; memory is then as it was.
        ValueError: A pointer points to none of the memories.
    """
    buffers = merged(memories)
    request = [_text(kernel), *map(_number, (*shape, shared_bytes, *order)), _number(len(buffers))]
    for buffer in buffers:
        content = ctypes.string_at(buffer.address, buffer.size)
        request += [_number(buffer.size), _number(buffer.address % _ALIGNMENT), content]
    request.append(_number(len(packed)))
    for argument in packed:
        request += [_number(len(argument.data)), argument.data, _number(len(argument.pointers))]
        for position, address in argument.pointers:
            request += map(_number, (position, *_found(address, buffers, kernel)))

    with tempfile.TemporaryDirectory() as temporary:
        asked, result = pathlib.Path(temporary, "request"), pathlib.Path(temporary, "result")
        asked.write_bytes(b"".join(request))
        try:
            done = subprocess.run([program, asked, result], capture_output=True, text=True, timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise HostFault("hang", f"kernel {kernel}: the launch takes longer than {limit_s} s") from None
        if done.returncode == _FAULT:
            kind, message = done.stdout.rstrip("\n").split("\n", 1)
            raise HostFault(kind, message)
        if done.returncode:
            if fault := from_sanitizer(done.stderr):
                raise fault
            raise RuntimeError(f"launch: {program} ended with {done.returncode}.\n{done.stderr}")
        content = result.read_bytes()
    for buffer in buffers:
        ctypes.memmove(buffer.address, content[: buffer.size], buffer.size)
        content = content[buffer.size :]


def _found(address: int, buffers: Sequence[Memory], kernel: str) -> tuple[int, int]:
    number = piece_of(address, buffers)
    if number is None:
        raise ValueError(
            f"launch: a struct given to {kernel} holds the pointer {address:#x}, which is none of its tensors; "
            "make it by struct_argument."
        )
    return number, address - buffers[number].address


def _number(value: int) -> bytes:
    return struct.pack("<q", value)


def _text(value: str) -> bytes:
    return _number(len(value.encode())) + value.encode()
