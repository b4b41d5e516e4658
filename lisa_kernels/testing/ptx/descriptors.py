"""Triton's ``TensorDescriptor`` arguments as the parameters that a compiled kernel takes for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lisa_kernels.core.launch import is_descriptor
from lisa_kernels.testing.ptx.tensor_maps import encode_tensor_map

# Element type of a map whose copies round to tf32.
_TF32 = 11


@dataclasses.dataclass(frozen=True)
class HostTensorMap:
    """A tensor map made by the host, and the tensor it may reach."""

    encoded: bytes
    base: Any


def expand_descriptors(args: Sequence[Any], names: Sequence[str], metadata: Any) -> tuple[list[Any], list[str]]:
    """Return arguments and names with each descriptor replaced by what Triton passes for it.

    For targets with tensor copies that is a tensor map, the shape and the strides; for others the tensor, shape,
    strides, two flags, and the last two once more.

    Args:
        metadata: Of the compiled kernel: ``tensordesc_meta`` says how each descriptor's box is laid out.
    """
    layouts = list(getattr(metadata, "tensordesc_meta", None) or ())
    given = list(names) + [f"argument {i}" for i in range(len(names), len(args))]
    expanded: list[Any] = []
    expanded_names: list[str] = []
    for arg, name in zip(args, given, strict=True):
        parts = _parts(arg, layouts) if is_descriptor(arg) else [arg]
        expanded += parts
        expanded_names += [name] * len(parts)
    return expanded, expanded_names


def _parts(descriptor: Any, layouts: list[dict[str, Any]]) -> list[Any]:
    sizes = [*map(int, descriptor.shape), *map(int, descriptor.strides)]
    if not layouts:
        flags = [int(descriptor.padding == "nan"), int(descriptor.round_f32_to_tf32)]
        return [descriptor.base, *sizes, *flags, *sizes]
    layout = layouts.pop(0)
    if layout["fp4_padded"] or layout.get("is_im2col"):
        raise ValueError("emulate: a descriptor is in im2col mode or of 4-bit elements; it takes tiles of whole bytes.")
    encoded = encode_tensor_map(
        descriptor.base.data_ptr(),
        descriptor.shape,
        descriptor.strides,
        box=layout["block_size"],
        element_bytes=layout["elem_size"],
        element_type=_TF32 if descriptor.round_f32_to_tf32 else layout["elem_type"],
        swizzle_mode=layout["swizzle"],
        fill_nan=descriptor.padding == "nan",
    )
    return [HostTensorMap(encoded, descriptor.base), *sizes]
