"""Whether the order in which programs run shows in the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lisa_kernels.testing.interpreter import honest_interpreter

REVERSED = -1


@dataclasses.dataclass(frozen=True)
class OrderReport:
    """Which orders of the programs gave other bits than the plain one; true when none did.

    Attributes:
        differing: ``(order, tensor, first differing element)``; the order -1 is the reverse one.
        orders: All that were tried.
    """

    differing: tuple[tuple[int, str, tuple[int, ...]], ...]
    orders: tuple[int, ...]

    def __bool__(self) -> bool:
        return not self.differing

    def __str__(self) -> str:
        if self:
            return f"the same bits in {len(self.orders) + 1} orders"
        return "\n".join(
            f"{name}[{', '.join(map(str, where))}] differs in "
            + ("the reverse order" if order == REVERSED else f"the order of seed {order}")
            for order, name, where in self.differing
        )


def same_bits_in_any_order(
    launch: Callable[[], object], tensors: Mapping[str, Tensor], *, seeds: Sequence[int] = (0, 1, 2)
) -> OrderReport:
    """Return whether a launch leaves the same bits when its programs run in reverse and in random orders.

    A test of determinism, not of races: an unsynchronised sum can come out alike in a few orders; ``sanitize`` finds it
    in one.

    Args:
        launch: Runs the kernels; called once for each order.
        tensors: What to compare, by name; set back to what they hold now before each call.
        seeds: Of the random orders; the plain and the reverse one are always tried.
    """
    initial = {name: tensor.clone() for name, tensor in tensors.items()}
    orders = (REVERSED, *seeds)
    plain: dict[str, Tensor] = {}
    differing = []
    for order in (None, *orders):
        for name, tensor in tensors.items():
            tensor.copy_(initial[name])
        with honest_interpreter(program_order=order):
            launch()
        if order is None:
            plain = {name: _bits(tensor).clone() for name, tensor in tensors.items()}
            continue
        for name, tensor in tensors.items():
            if (other := _bits(tensor) != plain[name]).any():
                differing.append((order, name, tuple(other.any(dim=-1).nonzero()[0].tolist())))
    return OrderReport(tuple(differing), orders)


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of each element, along one more axis."""
    return tensor.detach().contiguous().unsqueeze(-1).view(torch.uint8)
