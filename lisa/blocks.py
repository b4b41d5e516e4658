"""The one transformer block every tower is made of, and its parts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotate(x: Tensor) -> Tensor:
    """Return ``x`` ``[N, H, T, D]`` turned by its position in each pair of channels (RoPE, Su et al. 2021)."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attn(nn.Module):
    """Self-attention with rotary positions; ``keep`` marks the positions that exist."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Map ``[N, T, width]`` to the same shape; ``keep`` is bool ``[N, T]``."""
        batch, frames, width = x.shape
        q, k, v = self.qkv(x).view(batch, frames, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=keep[:, None, None, :])
        return self.out(mixed.transpose(1, 2).reshape(batch, frames, width))


class Conv(nn.Module):
    """Gated depthwise convolution over time (the local half of a Conformer block, Gulati et al. 2020).

    LayerNorm stands where the paper has BatchNorm, so a clip's output does not depend on the others in its batch.
    """

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Map ``[N, T, width]`` to the same shape; positions outside ``keep`` count as zeros."""
        x = F.glu(self.gate(x), dim=-1) * keep[..., None]
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.norm(x)))


class FeedForward(nn.Sequential):
    """Two linear maps with a GELU between, ``[..., width]`` to the same shape."""

    def __init__(self, width: int, expansion: int):
        super().__init__(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))


class Block(nn.Module):
    """Attention, convolution (if ``kernel`` > 0) and feed-forward, each pre-normalised and added to its input."""

    def __init__(self, width: int, heads: int, *, expansion: int, kernel: int, dropout: float):
        super().__init__()
        self.attn_norm, self.attn = nn.LayerNorm(width), Attn(width, heads)
        self.conv_norm = nn.LayerNorm(width) if kernel else None
        self.conv = Conv(width, kernel) if kernel else None
        self.ffn_norm, self.ffn = nn.LayerNorm(width), FeedForward(width, expansion)
        # On the sums only: drawing masks for the wide hidden layer too took a tenth of a step on 2 cores.
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Map ``[N, T, width]`` to the same shape; ``keep`` is bool ``[N, T]``."""
        x = x + self.dropout(self.attn(self.attn_norm(x), keep))
        if self.conv is not None:
            x = x + self.dropout(self.conv(self.conv_norm(x), keep))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))
