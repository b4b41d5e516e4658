"""What the emulator reports: one exception, with everything one needs to find the place."""

from __future__ import annotations

import dataclasses

KINDS = (
    "out of bounds",
    "misaligned",
    "read only",
    "uninitialised",
    "shared race",
    "global race",
    "unfinished cp.async",
    "unfinished bulk copy",
    "unfinished wgmma",
    "missing wgmma.fence",
    "missing proxy fence",
    "mbarrier misuse",
    "bad tensor map",
    "bad sync mask",
    "divergent barrier",
    "deadlock",
    "assert",
    "trap",
    "unsupported",
)


@dataclasses.dataclass
class PtxError(Exception):
    """One fault of a kernel.

    Attributes:
        kind: One of ``KINDS``.
        detail: What happened, in one sentence.
        instruction: Text of the instruction; empty for a fault of the whole module.
        source: ``file:line`` of the kernel's source, from ``.loc``; empty without line information.
        kernel: Name of the kernel.
        block: Block index ``(x, y, z)``; None before a block runs.
        threads: Linear thread indices in the block that are at fault, ascending.
        buffer: The argument concerned, or the nearest one, such as ``"argument 0 (x)"``; empty if memory is not the
            matter.
        offset: Byte offset of the access from the start of that buffer or of shared memory; may be negative.
    """

    kind: str
    detail: str
    instruction: str = ""
    source: str = ""
    kernel: str = ""
    block: tuple[int, int, int] | None = None
    threads: tuple[int, ...] = ()
    buffer: str = ""
    offset: int | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        super().__init__(self.kind, self.detail)

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.detail}"]
        place = self.kernel
        if self.block is not None:
            place += f", block {self.block}"
        if self.threads:
            place += f", {_thread_list(self.threads)}"
        if place:
            lines.append(f"  in {place}")
        if self.source:
            lines.append(f"  at {self.source}")
        if self.instruction:
            lines.append(f"  {self.instruction}")
        return "\n".join(lines)


def _thread_list(threads: tuple[int, ...], shown: int = 4) -> str:
    if len(threads) == 1:
        return f"thread {threads[0]}"
    text = ", ".join(map(str, threads[:shown]))
    return f"threads {text}" + (f" and {len(threads) - shown} more" if len(threads) > shown else "")
