"""Modules: thin layers over the ops."""

from lisa_kernels.nn.ctc import CTCLoss

__all__ = ["CTCLoss"]
