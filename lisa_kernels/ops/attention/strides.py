"""Memory of q, k, v and their gradients, as every backend's host code treats it."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_heads(x: Tensor) -> Tensor:
    """Return ``x`` ``[T, H, D]`` with heads dense inside a token and any token stride; a copy only where it must be.

    A slice of a fused projection stays a view.
    """
    _, heads, width = x.shape
    dense = (width <= 1 or x.stride(2) == 1) and (heads <= 1 or x.stride(1) == width)
    # An overlapping token stride (expand) would make a gradient of the same strides impossible.
    return x if dense and (x.shape[0] <= 1 or x.stride(0) >= heads * width) else x.contiguous()


def laid_out_like(grad: Tensor, like: Tensor) -> Tensor:
    """Return a gradient with the strides of ``torch.empty_like(like)``, a copy only where they differ."""
    strides = torch.empty_like(like, device="meta").stride()
    if all(size == 1 or mine == wanted for size, mine, wanted in zip(grad.shape, grad.stride(), strides, strict=True)):
        return grad
    return torch.empty_like(like, dtype=grad.dtype).copy_(grad)
