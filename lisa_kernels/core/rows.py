"""Rows of a tensor as kernels take them: dense, and in vectors as wide as one access of a thread."""

from __future__ import annotations

import math

from torch import Tensor

# What a thread loads or stores at once.
_ACCESS_BYTES = 16


def is_dense(tensor: Tensor) -> bool:
    """Return whether a row, along the last dimension, is contiguous."""
    return tensor.stride(-1) == 1 or tensor.shape[-1] == 1


def dense_rows(tensor: Tensor) -> Tensor:
    """Return the tensor, copied where its rows are not contiguous."""
    return tensor if is_dense(tensor) else tensor.contiguous()


def vector_elements(*tensors: Tensor) -> int:
    """Return the elements of one access: the largest power of 2 that divides row length, strides and alignment.

    Args:
        tensors: Of one dtype and length of rows, which are dense.
    """
    common = tensors[0].shape[-1]
    for tensor in tensors:
        start = tensor.storage_offset() if tensor.is_meta else tensor.data_ptr() // tensor.element_size()
        common = math.gcd(common, start, *tensor.stride()[:-1])
    return math.gcd(common, _ACCESS_BYTES // tensors[0].element_size())


def in_vectors(*tensors: Tensor) -> tuple[int, ...]:
    """Return the length of a row, and the strides of the other dimensions of each tensor, in ``vector_elements``."""
    vector = vector_elements(*tensors)
    return tensors[0].shape[-1] // vector, *(stride // vector for tensor in tensors for stride in tensor.stride()[:-1])
