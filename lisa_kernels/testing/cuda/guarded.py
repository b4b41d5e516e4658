"""One launch in this process, its tensors copied between inaccessible pages (``csrc/testing/guarded_memory.h``)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence

from lisa_kernels.testing.cuda.arguments import Memory, Packed, merged, piece_of


@contextlib.contextmanager
def guarded_arguments(
    library: ctypes.CDLL, packed: Sequence[Packed], memories: Sequence[Memory]
) -> Iterator[list[bytes]]:
    """Give the arguments' bytes with every pointer into ``memories`` turned to its guarded copy.

    At the end of the block the copies are written back, unless a launch in it faulted, and freed.

    Args:
        library: Of a module built without sanitizers.
        packed: The arguments.
        memories: What is copied.  A pointer into none of them (a raw address in a ctypes struct) stays as it is.
    """
    pieces = [piece for piece in merged(memories) if piece.size]
    try:
        copies = [library.lisa_host_guard(piece.name.encode(), piece.address, piece.size) for piece in pieces]
        yield [_turned(argument, pieces, copies) for argument in packed]
    finally:
        library.lisa_host_release()


def _turned(argument: Packed, pieces: Sequence[Memory], copies: Sequence[int]) -> bytes:
    data = bytearray(argument.data)
    for position, address in argument.pointers:
        number = piece_of(address, pieces)
        if number is not None:
            turned = copies[number] + address - pieces[number].address
            data[position : position + 8] = turned.to_bytes(8, "little")
    return bytes(data)
