"""Run by test_triton.py in a process of its own with TRITON_INTERPRET=1: ``python -m tests.core.interpreted CHECK``."""

import dataclasses
import sys

import torch

from lisa_kernels.core.launch import launch, record
from lisa_kernels.core.tiling import Tile
from lisa_kernels.testing import assert_matches, same_bits
from tests.core import probe_kernels


@dataclasses.dataclass(frozen=True)
class CastTile(Tile):
    BLOCK: int = 128


def cast(x, dtype, scale=1.0):
    out = torch.full_like(x, 7, dtype=dtype)
    launch(probe_kernels.cast_kernel, (-(-x.numel() // 128),), x, out, x.numel(), scale, tile=CastTile())
    return out


def rounding_equals_torch():
    """Random bits of every exponent, exact ties and both zeros, for every result dtype."""
    bits = torch.randint(-(2**31), 2**31, (5000,), generator=torch.Generator().manual_seed(0)).int()
    x = bits.view(torch.float32)
    x = torch.cat([x[x.isfinite()], torch.tensor([0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38])])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert same_bits(cast(x, dtype), x.to(dtype)), dtype


def nan_stays_nan():
    """Also a NaN whose low mantissa bits alone are set: rounding its bits up would give an infinity."""
    patterns = torch.tensor([0x7FC00000, 0x7F800001, 0x7FFFFFFF, -0x7FFFFF, -1], dtype=torch.int64).int()
    x = patterns.view(torch.float32)
    assert x.isnan().all()
    for dtype in (torch.float16, torch.bfloat16):
        assert cast(x, dtype).isnan().all(), dtype
    infinite = torch.tensor([float("inf"), -float("inf")])
    assert same_bits(cast(infinite, torch.bfloat16), infinite.bfloat16())


def half_inputs_are_computed_in_fp32():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert_matches(cast(x, torch.bfloat16, scale=1.7), x.double() * 1.7)


def dot_equals_the_exact_product():
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x, y = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((16, 64), (64, 16)))
        out = torch.empty(16, 16, dtype=dtype)
        blocks = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 32}
        launch(probe_kernels.matmul_kernel, (1,), x, y, out, 64, tile=Tile(), **blocks)
        assert_matches(out, x.double() @ y.double(), depth=64)


def exp2_is_exp2():
    x = torch.linspace(-20, 20, 300)
    out = torch.empty_like(x)
    launch(probe_kernels.exp2_kernel, (3,), x, out, 300, tile=CastTile())
    assert_matches(out, x.double().exp2())


def record_runs_nothing():
    out = torch.full((4,), 7.0)
    with record() as launches:
        launch(probe_kernels.cast_kernel, (1,), torch.zeros(4), out, 4, 1.0, tile=CastTile())
    assert len(launches) == 1
    assert (out == 7).all()


CHECKS = {
    function.__name__: function
    for function in (
        rounding_equals_torch,
        nan_stays_nan,
        half_inputs_are_computed_in_fp32,
        dot_equals_the_exact_product,
        exp2_is_exp2,
        record_runs_nothing,
    )
}

if __name__ == "__main__":
    CHECKS[sys.argv[1]]()
