"""Bytes equal the formulas of tiled kernels."""

import pytest
import torch

from lisa_kernels.testing.sanitizer import sanitize
from tests.interpreted.sanitizer import kernels


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("BM", "BN"), [(32, 32), (64, 32), (64, 128)])
def test_matmul_reads_each_operand_once_for_each_tile_of_the_other(BM, BN, dtype):
    a, b, out = (torch.randn(128, 128).to(dtype) for _ in range(3))
    with sanitize(outputs=["out_ptr"]) as report:
        kernels.matmul_kernel[(128 // BM, 128 // BN)](a, b, out, 128, 128, BM, BN, 32)
    bytes_of = 128 * 128 * 2
    traffic = report.traffic
    assert (traffic["a_ptr"].loaded, traffic["b_ptr"].loaded) == (bytes_of * 128 // BN, bytes_of * 128 // BM)
    assert traffic["a_ptr"].read == traffic["b_ptr"].read == traffic["out_ptr"].written == bytes_of
    assert traffic["a_ptr"].read_amplification == 128 / BN
    assert traffic["out_ptr"].write_amplification == 1
    assert traffic.programs == (128 // BM) * (128 // BN)
    assert traffic.largest_working_set == (BM + BN) * 128 * 2 + BM * BN * 2


def test_attention_reads_keys_once_for_each_query_tile_and_head_of_the_group():
    n, heads, group, D, BM = 128, 4, 2, 32, 64
    q, out = torch.randn(heads, n, D).half(), torch.empty(heads, n, D).half()
    k, v = (torch.randn(heads // group, n, D).half() for _ in range(2))
    with sanitize(outputs=["out_ptr"], poison=True) as report:
        kernels.attention_kernel[(n // BM, heads)](q, k, v, out, n, group, D, BM, 32)
    assert report.traffic["q_ptr"].read_amplification == report.traffic["out_ptr"].write_amplification == 1
    assert report.traffic["k_ptr"].read_amplification == report.traffic["v_ptr"].read_amplification == n / BM * group


def test_gather_streams_rows_once():
    index, x, out = torch.randint(0, 64, (100,)), torch.randn(64, 32), torch.empty(100, 32)
    with sanitize(outputs=["out_ptr"]) as report:
        kernels.gather_rows_kernel[(4,)](index, x, out, 100, 32, 32)
    assert report.traffic["index_ptr"].read_amplification == report.traffic["out_ptr"].write_amplification == 1
    assert report.traffic["x_ptr"].read == index.unique().numel() * 32 * 4
    # A row that one program gathers twice is asked for once.
    rows = sum(part.unique().numel() for part in index.split(32))
    assert report.traffic["x_ptr"].loaded == rows * 32 * 4


def test_masked_lanes_move_nothing():
    with sanitize() as report:
        kernels.copy_kernel[(4,)](torch.ones(100), torch.ones(100), 100, 32)
    assert report.traffic["x_ptr"].loaded == report.traffic["out_ptr"].stored == 400
    assert report.traffic.lanes_on / report.traffic.lanes == 100 / 128


def test_atomics_count_apart_and_each_time():
    with sanitize() as report:
        kernels.atomic_sum_kernel[(4,)](torch.ones(100), torch.zeros(1), 100, 32)
    total = report.traffic["out_ptr"]
    assert (total.atomic, total.stored, total.written, total.write_amplification) == (16, 0, 4, 4.0)


def test_strided_loads_waste_sectors():
    """Every eighth fp32 is one of each 32-byte sector."""
    x, out = torch.ones(64, 8), torch.zeros(64)
    with sanitize() as report:
        kernels.scatter_kernel[(1,)](torch.arange(64), x[:, 0].contiguous(), out, 64, 64)
        kernels.scatter_kernel[(1,)](torch.arange(64) * 8, out, x, 64, 64)
        kernels.gather_rows_kernel[(1,)](torch.arange(64) * 8, x, out, 64, 1, 64)
    assert report.traffic["x_ptr"].sector_efficiency == 1.0
    assert report.traffic["scatter_kernel.out_ptr"].sector_efficiency == 0.125


def test_a_load_across_a_sector_boundary_touches_both():
    """Eight fp32 that start in the middle of a sector."""
    with sanitize() as report:
        kernels.copy_kernel[(1,)](torch.ones(32)[4:12], torch.ones(8), 8, 8)
    assert report.traffic["x_ptr"].sector_efficiency == 0.5


def test_the_table_names_tensors_and_ratios():
    a, b, out = (torch.randn(64, 64).half() for _ in range(3))
    with sanitize() as report:
        kernels.matmul_kernel[(2, 2)](a, b, out, 64, 64, 32, 32, 32)
    assert str(report.traffic).splitlines() == [
        "tensor         loaded  x read sectors        stored     atomic x written",
        "a_ptr          16,384   2.00x    100%             0          0         -",
        "b_ptr          16,384   2.00x    100%             0          0         -",
        "out_ptr             0       -       -         8,192          0     1.00x",
        "4 programs; a program touches 10,240 bytes on average, 10,240 at most; 100 % of lanes on",
    ]
