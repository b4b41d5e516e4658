"""AddressSanitizer and UndefinedBehaviorSanitizer see each thread's accesses, in a process of its own."""

import ctypes

import pytest
import torch

from lisa_kernels.testing.cuda import HostFault, struct_argument
from tests.testing.cuda.conftest import KERNELS

# (kernel, arguments that are wrong, kind, words of the message)
WRONG = [
    ("over_read_kernel", lambda: [torch.zeros(20), torch.zeros(1), 20], "out of bounds", "READ of size 4"),
    ("over_write_kernel", lambda: [torch.zeros(20), 20], "out of bounds", "WRITE of size 4"),
    ("shared_over_write_kernel", lambda: [torch.zeros(32), 1], "out of bounds", "index 32 out of bounds"),
    ("shift_kernel", lambda: [torch.zeros(1, dtype=torch.int32), 40], "undefined behaviour", "shift exponent 40"),
    ("overflow_kernel", lambda: [torch.zeros(1, dtype=torch.int32), (1 << 31) - 1], "undefined behaviour", "overflow"),
    ("division_kernel", lambda: [torch.zeros(1, dtype=torch.int32), 0], "undefined behaviour", "division by zero"),
]
RIGHT = [
    ("over_read_kernel", lambda: [torch.zeros(20), torch.zeros(1), 19]),
    ("over_write_kernel", lambda: [torch.zeros(20), 19]),
    ("shared_over_write_kernel", lambda: [torch.zeros(32), 0]),
    ("shift_kernel", lambda: [torch.zeros(1, dtype=torch.int32), 30]),
    ("overflow_kernel", lambda: [torch.zeros(1, dtype=torch.int32), 5]),
    ("division_kernel", lambda: [torch.zeros(1, dtype=torch.int32), 3]),
]


@pytest.mark.parametrize(("kernel", "args", "kind", "words"), WRONG, ids=[case[0] for case in WRONG])
def test_a_planted_fault_is_caught_and_placed(sanitized_faults, kernel, args, kind, words):
    with pytest.raises(HostFault) as caught:
        sanitized_faults.launch(kernel, 1, 32, args(), seed=1)
    assert caught.value.kind == kind
    for part in (words, "faults.cu:", f"kernel {kernel}, block (0, 0, 0), thread ("):
        assert part in str(caught.value)


def test_an_over_read_of_dynamic_shared_memory_is_caught(sanitized_faults):
    out = torch.zeros(32)
    sanitized_faults.launch("dynamic_over_read_kernel", 1, 32, [out, 0], shared_bytes=128)
    assert (out == 1).all()
    with pytest.raises(HostFault, match=r"out of bounds: READ of size 4, use-after-poison, .*faults.cu:\d+: kernel"):
        sanitized_faults.launch("dynamic_over_read_kernel", 1, 32, [out, 1], shared_bytes=128)


@pytest.mark.parametrize(("kernel", "args"), RIGHT, ids=[case[0] for case in RIGHT])
def test_the_same_kernel_with_right_arguments_passes(sanitized_faults, kernel, args):
    sanitized_faults.launch(kernel, 1, 32, args(), seed=1)


def test_faults_of_the_model_arrive_from_the_other_process(sanitized_faults):
    with pytest.raises(HostFault) as caught:
        sanitized_faults.launch("wrong_mask_kernel", 1, 32, [torch.zeros(32, dtype=torch.int32)])
    assert caught.value.kind == "wrong sync mask"


def test_results_come_back_and_views_of_one_tensor_still_alias(sanitized_faults):
    both = torch.arange(64.0)
    sanitized_faults.launch("missing_barrier_kernel", 1, 32, [both[:32], both[32:]])
    assert torch.equal(both[:32], torch.arange(32.0))
    assert not torch.equal(both[32:], torch.arange(32.0, 64.0))
    out = torch.zeros(4, 32)[1]
    sanitized_faults.launch("uninitialised_shared_kernel", 1, 32, [out, True])
    assert (out == 1).all()


def test_a_struct_with_a_pointer_to_nowhere_is_refused(build):
    class Params(ctypes.Structure):
        _fields_ = (("output", ctypes.c_void_p),)

    source = "struct Params { float* output; };\n__global__ void k(Params p) { p.output[threadIdx.x] = 1.0f; }\n"
    module = build(source, sanitize=True)
    with pytest.raises(ValueError, match="struct_argument"):
        module.launch("k", 1, 4, [Params(torch.zeros(4).data_ptr())])
    out = torch.zeros(4)
    module.launch("k", 1, 4, [struct_argument(Params, {"output": out})])
    assert (out == 1).all()
    with pytest.raises(HostFault, match="WRITE of size 4"):
        module.launch("k", 1, 5, [struct_argument(Params, {"output": out})])


def test_a_process_that_does_not_end_is_ended(sanitized_faults):
    with pytest.raises(HostFault) as caught:
        sanitized_faults.launch("endless_loop_kernel", 1, 1, [torch.zeros(1, dtype=torch.int32)], limit_s=1)
    assert caught.value.kind == "hang"


@pytest.mark.prove
def test_correct_kernels_are_clean(build):
    values = build(KERNELS / "values.cu", instantiate=("lisa::sum_kernel<64>",), sanitize=True)
    numbers = torch.randn(500)
    for seed in (None, 1, 2):
        total, counts = torch.zeros(1), torch.zeros(256, dtype=torch.int32)
        values.launch("lisa::sum_kernel<64>", 3, 64, [numbers, total, 500], seed=seed)
        values.launch("histogram_kernel", 2, 256, [torch.zeros(50, dtype=torch.uint8), counts, 50], seed=seed)
        assert counts[0] == 50
