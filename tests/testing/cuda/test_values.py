"""Each part of the language gives the values that a GPU gives, in several orders of threads."""

import ctypes

import pytest
import torch

from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.cuda import compile_ptx
from tests.testing.cuda.conftest import CACHE, KERNELS

SEEDS = pytest.mark.parametrize("seed", [None, 1, 2, 3])


@SEEDS
@pytest.mark.parametrize("threads", [64, 256])
def test_instantiations_of_a_template_reduce_across_blocks(values, seed, threads):
    numbers = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(1)
    values.launch(f"lisa::sum_kernel<{threads}>", 7, threads, [numbers, total, 5000], seed=seed)
    assert_matches(total, numbers.double().sum().reshape(1), depth=5000)


@SEEDS
def test_atomics_on_shared_and_global_memory_count_everything(values, seed):
    numbers = torch.randint(0, 256, (20000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(256, dtype=torch.int32)
    values.launch("histogram_kernel", 5, 256, [numbers, counts, 20000], seed=seed)
    assert torch.equal(counts, torch.bincount(numbers.int(), minlength=256).int())


@SEEDS
def test_halves_are_converted_and_added(values, seed):
    numbers = torch.arange(-8, 56).bfloat16()
    doubled, half_sum = torch.empty(64, dtype=torch.float16), torch.zeros(1, dtype=torch.float16)
    # Exact: every partial sum of 16 numbers of at most 7 fits into 8 bits.
    bfloat_sum = torch.zeros(1, dtype=torch.bfloat16)
    values.launch("halves_kernel", 2, 32, [numbers[:16], doubled, half_sum, bfloat_sum, 16], seed=seed)
    assert torch.equal(doubled[:16], numbers[:16].half() * 2)
    assert half_sum.item() == bfloat_sum.item() == -8


@SEEDS
def test_vectors_are_added_element_by_element(values, seed):
    halves, bfloats = torch.zeros(2, dtype=torch.float16), torch.zeros(2, dtype=torch.bfloat16)
    pairs, quads, found = torch.zeros(2), torch.zeros(4), torch.zeros(96, 2)
    values.launch("vector_sums_kernel", 3, 32, [halves, bfloats, pairs, quads, found], seed=seed)
    assert halves.tolist() == bfloats.tolist() == pairs.tolist() == [96.0, 192.0]
    assert quads.tolist() == [96.0, 192.0, 288.0, 384.0]
    # Each sum of an element is found once.
    assert torch.equal(found.sort(0).values, torch.arange(96.0)[:, None] * torch.tensor([1.0, 2.0]))


@SEEDS
def test_votes_matches_and_shuffles_of_a_warp(values, seed):
    numbers = torch.arange(32, dtype=torch.int32) % 5
    got = torch.zeros(11, 32, dtype=torch.int32)
    values.launch("votes_kernel", 1, 32, [numbers, got], seed=seed)
    lanes = torch.arange(32)
    bits = 2**lanes

    def as_int32(numbers):
        return numbers.to(torch.int32)  # wraps

    assert (got[0] == as_int32((bits * (numbers % 2)).sum())).all()
    equal = numbers[:, None] == numbers[None, :]
    assert torch.equal(got[1], as_int32((equal * bits).sum(1)))
    assert (got[2] == 0).all()
    assert (got[3] == 1).all()
    assert (got[4] == 1).all()
    assert (got[5] == numbers.sum()).all()
    assert (got[6] == 4).all()
    assert torch.equal(got[7], numbers[torch.where(lanes % 8 == 0, lanes, lanes - 1)])
    assert torch.equal(got[8], numbers[torch.where(lanes % 8 == 7, lanes, lanes + 1)])
    assert torch.equal(got[9], numbers[lanes // 16 * 16 + 5])
    assert torch.equal(got[10], as_int32(torch.where(lanes < 16, 0xFFFF, 0xFFFF0000)))


@SEEDS
def test_barriers_reduce_over_the_block(values, seed):
    numbers = torch.ones(96, dtype=torch.int32)
    numbers[::4] = -1
    got = torch.zeros(3, 96, dtype=torch.int32)
    values.launch("barriers_kernel", 1, 96, [numbers, got], seed=seed)
    assert (got[0] == 72).all()
    assert (got[1] == 0).all()
    assert (got[2] == 1).all()


@SEEDS
def test_threads_and_blocks_have_three_dimensions(values, seed):
    got = torch.full((2 * 3 * 2, 4 * 2 * 2), float("nan"))
    values.launch("places_kernel", (2, 3, 2), (4, 2, 2), [got], seed=seed)
    blocks = torch.arange(12)[:, None] % 2
    expected = torch.where(torch.arange(16) % 2 == 0, 2.0, 3.0) * blocks
    assert torch.equal(got, expected)


def test_device_variables_live_as_long_as_the_module(values):
    launches = ctypes.c_int.in_dll(ctypes.CDLL(str(values.path)), "_ZN4lisa8launchesE")
    before = launches.value
    values.launch("places_kernel", 1, 1, [torch.empty(1)])
    assert launches.value == before + 1


def test_numbers_of_all_kinds_arrive(values):
    got = torch.empty(7, dtype=torch.float64)
    values.launch(
        "numbers_kernel", 1, 7, [got, True, -3, 4_000_000_000, 0.5, 0.1, 1.5, -(1 << 40)], shared_bytes=64, seed=1
    )
    assert got.tolist() == [1.0, -3.0, 4e9, 0.5, 0.1, 1.5, float(-(1 << 40))]


@SEEDS
def test_threads_that_wait_for_a_lock_let_others_run(values, seed):
    lock, count = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    values.launch("lock_kernel", 3, 64, [lock, count], seed=seed)
    assert count.item() == 192


def test_atomics_hold_between_blocks_on_different_os_threads(values):
    total = torch.zeros(1, dtype=torch.int32)
    values.launch("count_kernel", 64, 32, [total, 10_000], threads=8)
    assert total.item() == 64 * 32 * 10_000


def test_a_seed_shuffles_threads_and_blocks_and_no_seed_keeps_them_in_order(values):
    def arrivals(seed):
        got = torch.full((96,), -1, dtype=torch.int32)
        next_arrival = torch.zeros(1, dtype=torch.int32)
        values.launch("arrivals_kernel", 3, 32, [next_arrival, got], seed=seed, threads=1)
        assert sorted(got.tolist()) == list(range(96))
        return tuple(got.tolist())

    assert arrivals(None) == tuple(range(96))
    orders = {arrivals(seed) for seed in range(4)}
    assert len(orders) == 4
    assert len({order[0] // 32 for order in orders}) > 1
    assert all(order[:32] != tuple(sorted(order[:32])) for order in orders)


@SEEDS
def test_vectors_of_halves_and_maxima_that_ignore_nan(values, seed):
    numbers = torch.arange(-16, 16).bfloat16() / 4
    numbers[3] = float("nan")
    output, maxima = torch.empty(32, dtype=torch.float16), torch.empty(4)
    values.launch("vectors_kernel", 1, 4, [numbers, output, maxima], seed=seed)
    doubled = numbers.double() * 2
    # One rounding for product and sum.
    expected = (doubled * doubled + doubled).half()
    assert torch.equal(output.nan_to_num(), expected.nan_to_num())
    assert maxima.tolist() == [-2.25, -0.25, 1.75, 3.75]


def test_the_same_seed_gives_the_same_bits(values):
    numbers = torch.randn(5000, generator=torch.Generator().manual_seed(0))

    def total(seed):
        out = torch.zeros(1)
        values.launch("lisa::sum_kernel<64>", 40, 64, [numbers, out, 5000], seed=seed, threads=1)
        return out.item()

    assert total(5) == total(5)
    # Blocks add their sums in another order.
    assert len({total(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize("file", ["values.cu", "faults.cu", "launchers.cu"])
def test_the_same_file_goes_through_nvcc(nvcc, file):
    assert ".entry" in compile_ptx(KERNELS / file, "sm_90", cache=CACHE)
