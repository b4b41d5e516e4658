"""``RotaryPositions``: positions as rotations of queries and keys, of one axis or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_NAME = "RotaryPositions"


class RotaryPositions(nn.Module):
    """Rotary position embedding (Su et al. 2021); with several axes the multimodal one of Qwen2-VL (Wang et al. 2024).

    Channel i and channel i + D/2 of a head are a pair, rotated by ``position * base ** (-2 * i / D)``.

    Args:
        head_dim: Width D of a head, even.
        axes: Pairs of channels of each axis, D/2 in sum: ``(16, 24, 24)`` for time, height and width of 128 channels.
            None for one axis.
        base: Of the frequencies.

    Raises:
        ValueError: An odd ``head_dim``, or ``axes`` of another sum.
    """

    def __init__(self, head_dim: int, *, axes: Sequence[int] | None = None, base: float = 10_000.0) -> None:
        super().__init__()
        if head_dim <= 0 or head_dim % 2:
            raise ValueError(f"{_NAME}: head_dim is {head_dim}; it takes an even number above 0.")
        axes = (head_dim // 2,) if axes is None else tuple(axes)
        if sum(axes) != head_dim // 2 or min(axes) < 0:
            raise ValueError(f"{_NAME}: axes is {axes}; it takes numbers of pairs with the sum {head_dim // 2}.")
        self.head_dim, self.axes, self.base = head_dim, axes, base
        axis = torch.repeat_interleave(torch.arange(len(axes)), torch.tensor(axes))
        self.register_buffer("axis", axis, persistent=False)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Return ``x`` ``[T, H, D]``, rotated; computed in fp32.

        Args:
            position: ``[T]``, or ``[T, axes]``; any number dtype.
        """
        return _rotate(x, *self._waves(x, position))

    def at(
        self, position: Tensor, position_k: Tensor | None = None
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the callable ``(q, k) -> (q, k)`` that ``CrossModalAttention`` takes, for these positions.

        Args:
            position: Of the queries, as in ``forward``.
            position_k: Of the keys; None for those of the queries.
        """

        def encode(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
            waves = self._waves(q, position)
            return _rotate(q, *waves), _rotate(k, *(waves if position_k is None else self._waves(k, position_k)))

        return encode

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}, axes={self.axes}, base={self.base}"

    def _waves(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine ``[T, 1, D/2]`` in fp32."""
        if x.shape[-1] != self.head_dim:
            raise ValueError(f"{_NAME}: x has shape {tuple(x.shape)}; its last size must be {self.head_dim}.")
        position = position[:, None] if position.dim() == 1 else position
        if position.shape != (x.shape[0], len(self.axes)):
            wanted = (x.shape[0], len(self.axes))
            raise ValueError(f"{_NAME}: position has shape {tuple(position.shape)}; it takes {wanted}.")
        # Made here and no buffer: a module cast to bf16 would keep 8 bits of each frequency.
        pairs = torch.arange(self.head_dim // 2, dtype=torch.float64, device=x.device)
        frequency = (self.base ** (-2 * pairs / self.head_dim)).float()
        angle = position.float()[:, self.axis] * frequency
        return angle.cos()[:, None], angle.sin()[:, None]


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1).to(x.dtype)
