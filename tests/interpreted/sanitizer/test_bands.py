"""Guard bands see stores that the address check of a plain run does not."""

import pytest
import torch

from lisa_kernels.testing.sanitizer import SanitizerError, banded, faults, sanitize
from tests.interpreted.sanitizer import kernels


def run(kernel):
    tensors = banded({"x": torch.ones(100), "out": torch.zeros(100)})
    kernel[(4,)](tensors.tensors["x"], tensors.tensors["out"], 100, 32)
    return tensors


def test_a_right_kernel_leaves_the_bands_alone():
    run(kernels.copy_kernel).check()


def test_a_store_past_the_end_changes_a_band():
    with pytest.raises(SanitizerError) as caught:
        run(kernels.unmasked_store_kernel).check()
    (fault,) = caught.value.faults
    assert (fault.kind, fault.where, fault.elements) == (
        faults.BAND_TOUCHED,
        "store 1 element past the end of out",
        28,
    )


def test_a_store_into_the_gaps_of_a_view_changes_a_band():
    tensors = banded({"x": torch.ones(4, 16), "out": torch.zeros(4, 16)[:, :8]}).tensors
    guards = banded(tensors)
    kernels.rows_kernel[(4,)](guards.tensors["x"], guards.tensors["out"], 16, 16)
    with pytest.raises(SanitizerError, match="between the elements of out, 8 elements behind the first"):
        guards.check()


def test_a_load_from_a_band_gives_nan():
    tensors = banded({"x": torch.ones(100)}).tensors
    out = torch.zeros(128)
    kernels.unmasked_load_kernel[(4,)](tensors["x"], out, 128, 32)
    assert out[100:].isnan().all()


def test_the_bands_are_out_of_bounds_to_the_sanitizer():
    tensors = banded({"x": torch.ones(100), "out": torch.zeros(100)})
    with sanitize(raise_on_fault=False) as report:
        kernels.unmasked_store_kernel[(4,)](tensors.tensors["x"], tensors.tensors["out"], 100, 32)
    assert [fault.kind for fault in report.faults] == [faults.OUT_OF_BOUNDS]
    tensors.check()
