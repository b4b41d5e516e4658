"""Guard bands: copies of tensors between margins of poison, looked at afterwards.

``sanitize`` needs none: what lies outside a tensor is out of bounds whatever is there.  They are for runs without it,
on a GPU or in an emulator, and for host code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from lisa_kernels.testing.guarded import Guarded, guard_inputs
from lisa_kernels.testing.sanitizer.faults import BAND_TOUCHED, Fault, SanitizerError
from lisa_kernels.testing.sanitizer.memory import distance


@dataclasses.dataclass(frozen=True)
class Banded:
    """Copies of tensors between guard bands.

    Attributes:
        tensors: The copies by name, with the shapes and strides of the originals.
    """

    tensors: dict[str, Tensor]
    _guards: tuple[Guarded, ...]

    def check(self) -> None:
        """Raise when a byte outside the elements of a copy is not what it was.

        Raises:
            SanitizerError: With the tensors, and how far from them.
        """
        if found := tuple(fault for guard in self._guards if (fault := _fault(guard)) is not None):
            raise SanitizerError(found)


def banded(tensors: Mapping[str, Tensor]) -> Banded:
    """Return copies of tensors with NaN (integers: 3) before, behind and between their elements, 64 on either side."""
    copies, guards = guard_inputs(tensors, poison=True)
    return Banded(copies, guards)


def _fault(guard: Guarded) -> Fault | None:
    outside = torch.ones(guard.storage.shape, dtype=torch.bool)
    first = guard.tensor.storage_offset()
    if guard.tensor.numel():
        outside.as_strided(guard.tensor.shape, guard.tensor.stride(), first).fill_(False)
    changed = (_bytes(guard.storage) != _bytes(guard.before)).any(dim=-1) & outside
    if not changed.any():
        return None
    where = int(changed.nonzero()[0])
    elements = int((~outside).nonzero()[-1]) + 1 if guard.tensor.numel() else first
    if where >= elements:
        place = f"{distance(where - elements + 1)} past the end of {guard.name}"
    elif where < first:
        place = f"{distance(first - where)} before the start of {guard.name}"
    else:
        place = f"between the elements of {guard.name}, {distance(where - first)} behind the first"
    return Fault(BAND_TOUCHED, guard.name, f"store {place}", elements=int(changed.sum()))


def _bytes(storage: Tensor) -> Tensor:
    return storage.unsqueeze(-1).view(torch.uint8)
