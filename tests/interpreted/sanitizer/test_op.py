"""A whole op of the package: its host code allocates, its kernels run below ``torch.library``."""

import pytest
import torch

from lisa_kernels.core.dispatch import use_backend
from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.sanitizer import sanitize
from tests.specimens.swiglu.op import specimen_swiglu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_op_runs_forward_and_backward_without_fault_and_streams_once(dtype):
    gate, up = (
        torch.randn(3, 50, generator=torch.Generator().manual_seed(i)).to(dtype).requires_grad_() for i in (0, 1)
    )
    with use_backend("triton"), sanitize(outputs=["out_ptr"]) as report:
        out = specimen_swiglu(gate, up)
        out.sum().backward()
    assert report.faults == ()
    assert_matches(out, torch.nn.functional.silu(gate.double()) * up.double())
    assert report.traffic["out_ptr"].write_amplification == 1
    assert report.traffic["gate_ptr"].loaded == 2 * gate.numel() * dtype.itemsize
    assert gate.grad is not None
