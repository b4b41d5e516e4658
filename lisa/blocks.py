"""The one transformer block every tower is made of, and its parts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lisa_kernels import AttentionPlan, AttentionPolicy, ModalityLayout, attention_plan
from lisa_kernels.nn import CrossModalAttention, RotaryPositions


class Mixing(nn.Module):
    """What the attention of all blocks of a tower shares: one plan of the batch, and rotary positions.

    Args:
        heads: All of type full, over one modality.
        head_dim: Width of a head.
    """

    def __init__(self, heads: int, head_dim: int):
        super().__init__()
        self.policy = AttentionPolicy.of(["full"] * heads, n_modality=1)
        self.rotary = RotaryPositions(head_dim)

    def forward(self, keep: Tensor) -> dict:
        """Return the arguments of ``CrossModalAttention`` for a padded batch; ``keep`` is bool ``[N, T]``."""
        layout = ModalityLayout.from_padded(keep.new_zeros(keep.shape[1], dtype=torch.int32), keep)
        plan: AttentionPlan = attention_plan(layout, self.policy)
        return {"plan": plan, "encode": self.rotary.at(layout.position)}


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

    def __init__(self, width: int, policy: AttentionPolicy, *, expansion: int, kernel: int, dropout: float):
        super().__init__()
        self.attn_norm = nn.LayerNorm(width)
        self.attn = CrossModalAttention(width, policy.heads, policy, bias=True)
        self.conv_norm = nn.LayerNorm(width) if kernel else None
        self.conv = Conv(width, kernel) if kernel else None
        self.ffn_norm, self.ffn = nn.LayerNorm(width), FeedForward(width, expansion)
        # On the sums only: drawing masks for the wide hidden layer too took a tenth of a step on 2 cores.
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor, mixing: dict) -> Tensor:
        """Map ``[N, T, width]`` to the same shape; ``keep`` is bool ``[N, T]``, ``mixing`` from ``Mixing`` of it."""
        x = x + self.dropout(self.attn(self.attn_norm(x), **mixing))
        if self.conv is not None:
            x = x + self.dropout(self.conv(self.conv_norm(x), keep))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))
