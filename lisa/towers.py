"""Towers: one encoder per modality, a stem that makes vectors and blocks that mix them."""

import torch
from torch import Tensor, nn

from lisa.blocks import Block, Mixing
from lisa.data import Sequence


def kept(lengths: Tensor, size: int) -> Tensor:
    """Return bool ``[N, size]``: which positions lie inside ``lengths`` ``[N]``."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class MelStem(nn.Module):
    """Log-mel frames (10 ms) to vectors (40 ms) by two strided convolutions over time and frequency."""

    def __init__(self, mels: int, width: int, channels: int = 32):
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        bands = -(-mels // 2)
        bands = -(-bands // 2)
        self.out = nn.Linear(channels * bands, width)

    def forward(self, speech: Sequence) -> Sequence:
        """Map features ``[N, T, mels]`` to ``[N, ceil(T / 4), width]``, lengths likewise."""
        x, lengths = speech.values[:, None], speech.lengths
        for conv in (self.first, self.second):
            lengths = (lengths + 1) // 2
            x = torch.relu(conv(x))
            # Padding is set back to zero, so that a clip's edge looks the same alone and in a batch.
            x = x * kept(lengths, x.shape[2])[:, None, :, None]
        return Sequence(self.out(x.transpose(1, 2).flatten(2)), lengths)


class Tower(nn.Module):
    """A stem, blocks, and a final norm; works on any modality its stem can read."""

    def __init__(self, stem: nn.Module, mixing: Mixing, blocks: list[Block], *, width: int, dropout: float):
        super().__init__()
        self.stem, self.mixing = stem, mixing
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)

    def forward(self, inputs: Sequence) -> Sequence:
        """Map one modality's input to vectors ``[N, T, width]`` with their lengths."""
        stemmed = self.stem(inputs)
        keep = kept(stemmed.lengths, stemmed.values.shape[1])
        x = self.dropout(stemmed.values)
        mixing = self.mixing(keep)
        for block in self.blocks:
            x = block(x, keep, mixing)
        return Sequence(self.norm(x), stemmed.lengths)
