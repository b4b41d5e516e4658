"""What a kernel does wrong becomes a fault, or a value that is plainly wrong; and the process lives on."""

import pytest
import torch

from lisa_kernels.testing.cuda import KINDS, HostFault
from tests.specimens.cuda.specimens import CUDA_SPECIMENS

SEEDS = range(6)


def fault_of(module, kernel, block, args, **options):
    with pytest.raises(HostFault) as caught:
        module.launch(kernel, 1, block, args, **options)
    assert caught.value.kind in KINDS
    return caught.value


def integers(count):
    return torch.zeros(count, dtype=torch.int32)


@pytest.mark.parametrize(
    ("kernel", "threads", "rounds"),
    [("missing_barrier_kernel", 256, 1), ("missing_second_barrier_kernel", 64, 4), ("missing_syncwarp_kernel", 32, 1)],
)
def test_a_missing_barrier_gives_wrong_values_under_some_seed(faults, kernel, threads, rounds):
    dtype = torch.float32 if kernel == "missing_barrier_kernel" else torch.int32
    numbers = torch.arange(threads * rounds).to(dtype)
    expected = numbers.reshape(rounds, threads).flip(1).flatten()
    wrong = []
    for seed in SEEDS:
        got = torch.zeros_like(numbers)
        faults.launch(kernel, 1, threads, [numbers, got], seed=seed)
        wrong.append(not torch.equal(got, expected))
    assert all(wrong)


def test_a_barrier_that_only_a_warp_far_ahead_needs_is_missed_under_many_seeds(build):
    """Drawing the next thread alone finds it under none: a warp must run a whole round while another one waits."""
    specimen = CUDA_SPECIMENS["scan"]
    text = specimen.source.read_text()
    last = text.rindex("    __syncthreads();")
    module = build(
        text[:last] + text[last:].replace("__syncthreads();", ";", 1), include_dirs=(specimen.source.parent,)
    )
    wrong = 0
    for seed in range(12):
        fields = specimen.make_fields(0)
        module.launch(
            specimen.kernel,
            specimen.grid,
            specimen.block,
            specimen.args(fields),
            shared_bytes=specimen.shared_bytes,
            seed=seed,
        )
        wrong += not torch.equal(fields["output"].double(), specimen.expected(fields))
    assert wrong >= 4


def test_a_lane_outside_its_own_mask_is_named(faults):
    fault = fault_of(faults, "wrong_mask_kernel", 32, [integers(32)])
    assert fault.kind == "wrong sync mask"
    for part in ("lane 16", "0x0000ffff", "kernel wrong_mask_kernel", "thread (16, 0, 0)", "faults.cu:"):
        assert part in str(fault)


def test_lanes_of_a_mask_at_different_operations_are_told(faults):
    fault = fault_of(faults, "divergent_warp_kernel", 32, [integers(32)])
    assert fault.kind == "divergent warp"
    assert "__shfl_sync" in str(fault)
    assert "__any_sync" in str(fault)


def test_two_barriers_of_one_block_are_no_barrier(faults):
    fault = fault_of(faults, "divergent_barrier_kernel", 64, [integers(64)])
    assert fault.kind == "divergent barrier"


# In order, the first thread leaves before any other is at the barrier, the last one when all others are; a whole warp.
@pytest.mark.parametrize(("first", "end"), [(1, 64), (0, 63), (32, 64), (0, 32), (20, 50)])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_barrier_waits_for_all_threads_but_those_that_left(faults, seed, first, end):
    got, expected = integers(64), integers(64)
    faults.launch("early_exit_kernel", 1, 64, [got, first, end], seed=seed)
    expected[first:end] = 100 * (end - first) + torch.arange(first, end).flip(0).int()
    assert torch.equal(got, expected)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_two_barriers_are_no_barrier_after_others_have_left_either(faults, seed):
    fault = fault_of(faults, "early_exit_then_divergent_kernel", 64, [integers(64)], seed=seed)
    assert fault.kind == "divergent barrier"


def test_a_deadlock_names_what_is_waited_for(faults):
    fault = fault_of(faults, "deadlock_kernel", 32, [integers(32)], seed=1)
    assert fault.kind == "deadlock"
    assert "__syncwarp" in str(fault)
    assert "__syncthreads" in str(fault)


def test_a_loop_without_end_is_a_fault_when_its_time_is_up(faults):
    fault = fault_of(faults, "endless_loop_kernel", 32, [integers(1)], limit_s=1)
    assert fault.kind == "hang"
    assert "kernel endless_loop_kernel, block (0, 0, 0), thread (0, 0, 0)" in str(fault)


@pytest.mark.prove
def test_polling_without_end_ends(faults):
    assert fault_of(faults, "endless_poll_kernel", 32, [integers(1)]).kind == "deadlock"


def test_writing_beyond_a_shared_array_names_it(faults):
    faults.launch("shared_over_write_kernel", 1, 32, [torch.zeros(32), 0])
    fault = fault_of(faults, "shared_over_write_kernel", 32, [torch.zeros(32), 4])
    assert fault.kind == "out of bounds"
    assert "`staged`" in str(fault)


def test_a_null_pointer_is_a_fault_and_not_the_end_of_the_process(faults):
    fault = fault_of(faults, "wild_pointer_kernel", 32, [None], seed=2)
    assert fault.kind == "out of bounds"
    assert "kernel wild_pointer_kernel" in str(fault)


def test_a_stack_that_runs_out_is_a_fault(faults):
    assert fault_of(faults, "recursion_kernel", 1, [integers(1), 100_000]).kind == "stack overflow"
    faults.launch("recursion_kernel", 1, 1, [integers(1), 10])


def test_division_by_zero_is_a_fault(faults):
    assert fault_of(faults, "division_kernel", 1, [integers(1), 0]).kind == "undefined behaviour"


def test_an_assertion_names_its_condition(faults):
    fault = fault_of(faults, "assertion_kernel", 32, [31])
    assert fault.kind == "assertion"
    assert "threadIdx.x < limit" in str(fault)
    assert "thread (31, 0, 0)" in str(fault)
    faults.launch("assertion_kernel", 1, 32, [32])


def test_a_trap_is_a_fault(faults):
    assert fault_of(faults, "trap_kernel", 32, []).kind == "trap"


def test_after_a_fault_the_next_launch_runs(faults):
    fault_of(faults, "trap_kernel", 32, [])
    out = torch.zeros(32)
    faults.launch("uninitialised_shared_kernel", 1, 32, [out, True])
    assert (out == 1).all()


def test_shared_memory_is_poison_in_every_block_until_written(faults):
    out = torch.zeros(3 * 32)
    faults.launch("uninitialised_shared_kernel", 3, 32, [out, False], threads=1)
    assert out.isnan().all()
    # What an earlier launch left is gone.
    faults.launch("uninitialised_shared_kernel", 1, 32, [out, True], threads=1)
    faults.launch("uninitialised_shared_kernel", 1, 32, [out, False], threads=1)
    assert out[:32].isnan().all()


def test_dynamic_shared_memory_is_poison_until_written(faults):
    out = torch.zeros(32)
    faults.launch("uninitialised_dynamic_kernel", 1, 32, [out], shared_bytes=128)
    assert out.isnan().all()


def test_a_copy_is_not_there_before_it_is_waited_for(faults):
    numbers, out = torch.arange(32.0), torch.zeros(32)
    faults.launch("early_read_kernel", 1, 32, [numbers, out, 0])
    assert torch.equal(out, numbers)
    faults.launch("early_read_kernel", 1, 32, [numbers, out, 1])
    assert out.isnan().all()


def test_a_misaligned_copy_is_told(faults):
    assert fault_of(faults, "misaligned_copy_kernel", 1, [torch.zeros(64), torch.zeros(1)]).kind == "async copy"


def test_a_shuffle_from_a_lane_outside_the_mask_gives_poison(faults):
    out = torch.zeros(16)
    faults.launch("inactive_source_kernel", 1, 32, [out])
    assert out.isnan().all()


@pytest.mark.parametrize(
    ("grid", "block"), [(0, 32), ((1, 65536), 32), (1, 0), (1, 1025), (1, (1, 1, 65)), (1, (32, 33))]
)
def test_a_launch_that_the_driver_would_refuse_is_refused(faults, grid, block):
    with pytest.raises(HostFault, match="launch refused"):
        faults.launch("trap_kernel", grid, block, [])


def test_a_block_larger_than_the_launch_bounds_is_refused(faults):
    faults.launch("bounded_kernel", 1, 64, [integers(65)])
    fault = fault_of(faults, "bounded_kernel", 65, [integers(65)])
    assert fault.kind == "launch refused"
    assert "__launch_bounds__(64)" in str(fault)


def test_shared_memory_has_an_end(faults):
    with pytest.raises(HostFault, match="227 KiB"):
        faults.launch("uninitialised_dynamic_kernel", 1, 32, [torch.zeros(32)], shared_bytes=228 << 10)
