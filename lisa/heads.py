"""Heads: what is read off a tower."""

from torch import nn

from lisa.data import Sequence


class CTCHead(nn.Module):
    """Scores of each class at each frame, class 0 being the blank."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.out = nn.Linear(width, classes)

    def forward(self, features: Sequence) -> Sequence:
        """Map ``[N, T, width]`` to logits ``[N, T, classes]``; lengths stay."""
        return Sequence(self.out(features.values), features.lengths)
