"""One wrong version of a kernel's source."""

from __future__ import annotations

import dataclasses

KINDS = ("barrier", "wait", "mask", "index", "store")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one place.

    Attributes:
        kind: One of ``KINDS``: ``"barrier"`` deletes a barrier or fence, ``"wait"`` lets one more group of asynchronous
            copies stay unfinished, ``"mask"`` drops or loosens a bound, ``"index"`` shifts an address or exchanges two
            axes, ``"store"`` writes past a store's own elements.
        line: Line of the original source, from 1.
        before: That line, or the part of it that changes.
        after: What stands there instead; empty where it was deleted.
        text: The whole source with the change.
    """

    kind: str
    line: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}, line {self.line}: {self.before} -> {self.after or 'deleted'}"
