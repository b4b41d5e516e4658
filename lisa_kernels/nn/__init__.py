"""Modules: thin layers over the ops."""

from lisa_kernels.nn.attention import CrossModalAttention
from lisa_kernels.nn.ctc import CTCLoss
from lisa_kernels.nn.multihead import MultiheadAttention
from lisa_kernels.nn.rotary import RotaryPositions

__all__ = ["CTCLoss", "CrossModalAttention", "MultiheadAttention", "RotaryPositions"]
