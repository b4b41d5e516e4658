"""``AttentionPlan.describe``: the tile map of a plan as text and as a picture.  Looks at values: waits for a device."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lisa_kernels.ops.attention.tile_lists import COMPLETE, PARTIAL, SKIPPED, TILE

if TYPE_CHECKING:
    from lisa_kernels.ops.attention.plan import AttentionPlan

_MARKS = {SKIPPED: "·", PARTIAL: "▒", COMPLETE: "█"}
_LEGEND = f"{_MARKS[SKIPPED]} skipped, {_MARKS[PARTIAL]} masked, {_MARKS[COMPLETE]} full"
_WIDEST = 96


@dataclasses.dataclass(frozen=True)
class PlanDescription:
    """What a plan visits; ``print`` it, or ``draw`` it.

    Attributes:
        states: Of tile pairs, int8 ``[types, query tiles, key tiles]`` on the CPU: 0 skipped, 1 partial, 2 full.
        heads: Query heads of each type.
        title: Sizes and flags of the plan in a line.
    """

    states: Tensor
    heads: tuple[tuple[int, ...], ...]
    title: str

    def visited(self, kind: int) -> float:
        """Return the share of tile pairs that heads of a type visit, 0 to 1."""
        return float((self.states[kind] != SKIPPED).double().mean()) if self.states[kind].numel() else 0.0

    def unmasked(self, kind: int) -> float:
        """Return the share of visited tile pairs that need no mask, 0 to 1."""
        visited = int((self.states[kind] != SKIPPED).sum())
        return int((self.states[kind] == COMPLETE).sum()) / visited if visited else 0.0

    def summary(self, kind: int) -> str:
        """Return one line about a type of head."""
        heads = ", ".join(map(str, self.heads[kind])) or "none"
        return (
            f"type {kind} (heads {heads}): {self.visited(kind):.1%} of tiles visited, "
            f"{self.unmasked(kind):.0%} of these without a mask"
        )

    def __str__(self) -> str:
        lines = [self.title, f"a row for each {TILE} queries: {_LEGEND}"]
        for kind, states in enumerate(self.states):
            lines += ["", self.summary(kind)]
            lines += ["".join(_MARKS[int(state)] for state in row) for row in _coarse(states)]
        return "\n".join(lines)

    def draw(self) -> Any:
        """Return a matplotlib figure with one map for each type of head.

        Raises:
            RuntimeError: matplotlib is not installed.
        """
        try:
            from matplotlib.colors import ListedColormap
            from matplotlib.figure import Figure
        except ImportError as error:
            raise RuntimeError(
                "PlanDescription.draw: matplotlib is not installed; it takes pip install matplotlib."
            ) from error
        types = len(self.states)
        figure = Figure(figsize=(4 * types, 4.6), layout="constrained")
        figure.suptitle(
            f"{self.title}\n" + ", ".join(name for name in ("white: skipped", "light: masked", "dark: full"))
        )
        colours = ListedColormap(["white", "#9ecae1", "#08519c"])
        for kind, axes in enumerate(figure.subplots(1, types, squeeze=False)[0]):
            axes.imshow(self.states[kind].numpy(), cmap=colours, vmin=0, vmax=2, interpolation="nearest")
            heads = ", ".join(map(str, self.heads[kind]))
            axes.set_title(f"type {kind}, heads {heads}\n{self.visited(kind):.1%} visited", fontsize="small")
            axes.set_xlabel(f"tiles of {TILE} keys")
            axes.set_ylabel(f"tiles of {TILE} queries")
        return figure


def describe(plan: AttentionPlan) -> PlanDescription:
    """Return the description of a plan."""
    policy = plan.policy
    heads = tuple(
        tuple(head for head, kind in enumerate(policy.head_type) if kind == wanted) for wanted in range(policy.types)
    )
    queries, keys = plan.layout.sample.shape[0], plan.layout_k.sample.shape[0]
    flags = [name for name in ("causal", "exact", "reordered") if getattr(plan, name)]
    title = (
        f"{queries} queries x {keys} keys, {policy.heads} heads of {policy.types} types, {plan.nbytes / 2**20:.2f} MiB"
    )
    return PlanDescription(tile_states(plan), heads, ", ".join([title, *flags]))


def tile_states(plan: AttentionPlan) -> Tensor:
    """Return the states of all tile pairs by the query lists, int8 ``[types, query tiles, key tiles]`` on the CPU."""
    return _states(plan.lists_q.to("cpu"), plan.lists_k.shape[1])


def _states(lists: Tensor, columns: int) -> Tensor:
    types, rows, width = lists.shape
    place = torch.arange(width - 2).expand(types, rows, -1)
    n_partial, n_all = lists[..., 0:1], lists[..., 1:2]
    state = torch.where(place < n_partial, PARTIAL, COMPLETE).to(torch.int8)
    # What lies behind a list goes to a column of its own.
    column = torch.where(place < n_all, lists[..., 2:].long(), columns)
    return torch.zeros(types, rows, columns + 1, dtype=torch.int8).scatter_(2, column, state)[..., :columns]


def _coarse(states: Tensor) -> Tensor:
    """Return a map of at most 96 rows and columns: the most laborious state of each square of tiles."""
    step = -(-max(states.shape) // _WIDEST) if states.numel() else 1
    if step == 1:
        return states
    # Masked is more work than full: it wins.
    rank = torch.tensor([0, 2, 1], dtype=torch.float32)[states.long()]
    rank = torch.nn.functional.pad(rank, (0, -states.shape[1] % step, 0, -states.shape[0] % step))
    coarse = torch.nn.functional.max_pool2d(rank[None], step)[0]
    return torch.tensor([SKIPPED, COMPLETE, PARTIAL])[coarse.long()]
