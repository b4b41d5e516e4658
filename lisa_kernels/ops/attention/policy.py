"""``AttentionPolicy``: which modality may see which, for each type of head.  Host data, hashable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

NONE, FULL, CAUSAL = 0, 1, 2
MAX_MODALITIES = 32
_NAME = "AttentionPolicy"

Table = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class AttentionPolicy:
    """Visibility tables of head types, and the type of each query head.

    Args:
        visibility: ``[types, M, M]`` of ``NONE`` (0), ``FULL`` (1) and ``CAUSAL`` (2), as nested sequences or a CPU
            tensor: ``visibility[type][modality of the query][modality of the key]``.  A query sees a key of its own
            sample if the entry is FULL, or if it is CAUSAL and ``position_q >= position_k``.
        head_type: ``[HQ]``, a type for each query head.

    Raises:
        ValueError: An entry, a shape or a type that is not listed above, or more than 32 modalities.
    """

    visibility: tuple[Table, ...]
    head_type: tuple[int, ...]

    NONE: ClassVar[int] = NONE
    FULL: ClassVar[int] = FULL
    CAUSAL: ClassVar[int] = CAUSAL

    def __post_init__(self) -> None:
        # Frozen: what came as lists or tensors is stored as tuples, so that policies can be compared and hashed.
        object.__setattr__(self, "visibility", tuple(_table(table) for table in self.visibility))
        object.__setattr__(self, "head_type", tuple(int(kind) for kind in self.head_type))
        if not self.visibility or not self.head_type:
            raise ValueError(f"{_NAME}: visibility and head_type are empty; it takes at least one type and one head.")
        size = len(self.visibility[0])
        if not 1 <= size <= MAX_MODALITIES:
            raise ValueError(f"{_NAME}: visibility has {size} modalities; it takes 1 to {MAX_MODALITIES}.")
        for place, table in enumerate(self.visibility):
            if len(table) != size or any(len(row) != size for row in table):
                widths = [len(row) for row in table]
                raise ValueError(
                    f"{_NAME}: visibility[{place}] has {len(table)} rows of {widths} entries; it takes {size} rows of "
                    f"{size}, a row for each modality of queries."
                )
            if wrong := [entry for row in table for entry in row if entry not in (NONE, FULL, CAUSAL)]:
                raise ValueError(
                    f"{_NAME}: visibility[{place}] holds {wrong[0]}; it takes 0 (NONE), 1 (FULL) or 2 (CAUSAL)."
                )
        if wrong := [kind for kind in self.head_type if not 0 <= kind < len(self.visibility)]:
            raise ValueError(
                f"{_NAME}: head_type holds {wrong[0]}; it takes 0 to {len(self.visibility) - 1}, a type of visibility."
            )

    @classmethod
    def of(cls, heads: Sequence[str], *, n_modality: int, prefix: Sequence[int] = ()) -> AttentionPolicy:
        """Return a policy by preset names, one for each query head.

        Args:
            heads: ``"full"``, ``"causal"``, ``"within"`` (own modality), ``"cross"`` (other modalities),
                ``"within-causal"``, ``"cross-causal"``, or ``"prefix_lm"``: tokens of a prefix modality see all tokens
                of prefix modalities and no others, other tokens see everything causally.
            n_modality: Number of modalities M.
            prefix: Modalities of the prefix, for ``"prefix_lm"``.

        Raises:
            ValueError: An unknown name, or ``prefix`` without ``"prefix_lm"``, or the reverse.
        """
        if isinstance(heads, str):
            raise ValueError(f"{_NAME}: heads is {heads!r}; it takes a list of names, one for each query head.")
        if unknown := [name for name in heads if name not in _PRESETS]:
            raise ValueError(f"{_NAME}: heads holds {unknown[0]!r}; it takes {', '.join(map(repr, _PRESETS))}.")
        if wrong := [m for m in prefix if not 0 <= m < n_modality]:
            raise ValueError(f"{_NAME}: prefix holds {wrong[0]}; it takes modalities 0 to {n_modality - 1}.")
        if bool(prefix) != ("prefix_lm" in heads):
            raise ValueError(f"{_NAME}: prefix is {tuple(prefix)!r}; it takes modalities where a head is 'prefix_lm'.")
        kinds = tuple(dict.fromkeys(heads))
        modalities = range(n_modality)
        tables = tuple(
            tuple(tuple(_PRESETS[kind](q, k, frozenset(prefix)) for k in modalities) for q in modalities)
            for kind in kinds
        )
        return cls(tables, tuple(kinds.index(name) for name in heads))

    @property
    def types(self) -> int:
        """Number of head types."""
        return len(self.visibility)

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return len(self.head_type)

    @property
    def n_modality(self) -> int:
        """Number of modalities."""
        return len(self.visibility[0])

    @property
    def causal(self) -> bool:
        """Whether any head looks at positions: an entry is CAUSAL."""
        return any(entry == CAUSAL for table in self.visibility for row in table for entry in row)


def _table(value: Any) -> Table:
    return tuple(tuple(int(entry) for entry in row) for row in value)


def _prefix_lm(q: int, k: int, prefix: frozenset[int]) -> int:
    if q in prefix:
        return FULL if k in prefix else NONE
    return CAUSAL


_PRESETS = {
    "full": lambda q, k, prefix: FULL,
    "causal": lambda q, k, prefix: CAUSAL,
    "within": lambda q, k, prefix: FULL if q == k else NONE,
    "cross": lambda q, k, prefix: FULL if q != k else NONE,
    "within-causal": lambda q, k, prefix: CAUSAL if q == k else NONE,
    "cross-causal": lambda q, k, prefix: CAUSAL if q != k else NONE,
    "prefix_lm": _prefix_lm,
}
