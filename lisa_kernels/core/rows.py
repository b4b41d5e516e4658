"""Rows of a tensor as kernels take them: dense, and in vectors as wide as one access of a thread."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# What a thread loads or stores at once.
_ACCESS_BYTES = 16


def is_dense(tensor: Tensor) -> bool:
    """Return whether a row, along the last dimension, is contiguous."""
    return tensor.stride(-1) == 1 or tensor.shape[-1] == 1


def dense_rows(tensor: Tensor) -> Tensor:
    """Return the tensor, copied where its rows are not contiguous."""
    return tensor if is_dense(tensor) else tensor.contiguous()


def write_like(tensor: Tensor, write: Callable[[Tensor, Tensor], None]) -> Tensor:
    """Return what ``write(tensor, result)`` writes, both with dense rows, in a tensor strided like the given one.

    The usual model hands over a transposed tensor, and gets its gradient back transposed without a copy.
    """
    result = torch.empty_like(tensor)
    dense = result if is_dense(result) else torch.empty_like(tensor, memory_format=torch.contiguous_format)
    write(dense_rows(tensor), dense)
    return result if dense is result else result.copy_(dense)


def write_over(tensor: Tensor, write: Callable[[Tensor, Tensor], None]) -> None:
    """Put what ``write`` of ``write_like`` writes into the tensor itself; where rows are dense it gets it twice."""
    dense = dense_rows(tensor)
    write(dense, dense)
    if dense is not tensor:
        tensor.copy_(dense)


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
