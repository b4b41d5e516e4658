"""Launch choices as data: a ``Tile`` for each kernel, target and size class, found by look-up and never by a search."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from lisa_kernels.core.targets import Target

_forced: contextvars.ContextVar[Tile | None] = contextvars.ContextVar("forced_tile", default=None)


@dataclasses.dataclass(frozen=True)
class Tile:
    """Launch choice of one kernel on one target.  Upper-case fields of a subclass are its constexprs."""

    num_warps: int = 4
    num_stages: int = 2
    # Passed at every launch: Triton 3.10 turns its default off, which changes instructions and rounding.
    fp_fusion: bool = True

    def constexprs(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name.isupper()}

    def options(self) -> dict[str, Any]:
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": self.fp_fusion}


AnyTile = TypeVar("AnyTile", bound=Tile)
# Rows of one target, from the smallest size class up: (largest size it serves or None, tile).
Rows = tuple[tuple[int | None, AnyTile], ...]


def pick(table: Mapping[str, Rows[AnyTile]], target: Target, size: int) -> AnyTile:
    """Return the tile of ``target`` for a problem of ``size`` (what size means, the table says).

    Raises:
        LookupError: The table has no row for the target or the size.
    """
    forced = _forced.get()
    if forced is not None:
        return forced  # type: ignore[return-value]
    for largest, tile in table.get(target.name, ()):
        if largest is None or size <= largest:
            return tile
    raise LookupError(f"pick: no tile for target {target.name} and size {size}; the table has {', '.join(table)}.")


@contextlib.contextmanager
def force_tile(tile: Tile) -> Iterator[None]:
    """Make every ``pick`` return ``tile`` while the block runs: tests cross tile boundaries with small sizes so."""
    token = _forced.set(tile)
    try:
        yield
    finally:
        _forced.reset(token)
