"""An access beyond a tensor is a fault that names thread and tensor, and neither the process nor the tensors suffer."""

import ctypes

import pytest
import torch

from lisa_kernels.testing.cuda import HostFault, struct_argument

SOURCE = """
#include <cstdint>
struct Params { const float* input; float* output; };
__global__ void struct_kernel(Params p) { p.output[threadIdx.x] = p.input[threadIdx.x]; }
__global__ void shift_kernel(const float* input, float* output) {
  const float value = input[threadIdx.x];
  __syncthreads();
  output[threadIdx.x] = value;
}
__global__ void address_kernel(const uint8_t* first, const uint8_t* second, int64_t* output) {
  output[0] = reinterpret_cast<uintptr_t>(first), output[1] = reinterpret_cast<uintptr_t>(second);
}
__global__ void table_kernel(float** table) { table[0][threadIdx.x] = 1.0f; }
"""


class Params(ctypes.Structure):
    _fields_ = (("input", ctypes.c_void_p), ("output", ctypes.c_void_p))


@pytest.fixture
def module(build):
    return build(SOURCE)


def message_of(launch):
    with pytest.raises(HostFault) as caught:
        launch()
    assert caught.value.kind == "out of bounds"
    return str(caught.value)


# 20 floats end at the inaccessible page; after 21 there are 12 bytes of margin.
@pytest.mark.parametrize(
    ("size", "index"),
    [(20, 20), (21, 21), (21, 23), (21, 24), (20, -1), (21, -3), (20, -4000), (20, 1 << 27), (20, -(1 << 27))],
)
@pytest.mark.parametrize("seed", [None, 1])
def test_a_store_beyond_a_tensor_names_thread_and_tensor(faults, size, index, seed):
    out = torch.zeros(3 * size)[size : 2 * size]
    message = message_of(lambda: faults.launch("store_kernel", 5, 32, [out, index], seed=seed, threads=2))
    assert f"byte {4 * index} of argument 0 of store_kernel, which has {4 * size} bytes" in message
    assert "block (2, 0, 0), thread (5, 0, 0)" in message


def test_a_copy_that_goes_one_too_far_stores_what_no_margin_holds(module):
    params = struct_argument(Params, {"input": torch.zeros(21), "output": torch.zeros(21)})
    message = message_of(lambda: module.launch("struct_kernel", 1, 22, [params]))
    assert "byte 84 of output, which has 84 bytes" in message
    assert "thread (21, 0, 0)" in message


@pytest.mark.parametrize("index", [0, 20])
def test_a_store_inside_a_tensor_is_none(faults, index):
    out = torch.zeros(21)
    faults.launch("store_kernel", 5, 32, [out, index])
    assert out.nonzero().tolist() == [[index]]


def test_a_read_beyond_a_tensor_is_a_fault_or_not_a_number(faults):
    message = message_of(lambda: faults.launch("over_read_kernel", 1, 32, [torch.zeros(20), torch.zeros(1), 20]))
    assert "byte 80 of argument 0" in message
    assert "thread (20, 0, 0)" in message
    out = torch.zeros(1)
    faults.launch("over_read_kernel", 1, 32, [torch.zeros(21), out, 21])
    assert out.isnan().all()


@pytest.mark.parametrize("size", [20, 21])
def test_after_a_fault_the_tensors_are_as_they_were(faults, size):
    around = torch.zeros(3 * size)
    message_of(lambda: faults.launch("over_write_kernel", 1, 32, [around[size : 2 * size], size]))
    assert (around == 0).all()


def test_views_that_overlap_still_do(module):
    both = torch.arange(48.0)
    module.launch("shift_kernel", 1, 32, [both[:32], both[16:]], seed=1)
    assert torch.equal(both, torch.cat([torch.arange(16.0), torch.arange(32.0)]))


def test_addresses_keep_their_alignment_and_distance(module):
    values, out = torch.zeros(100, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    for start in range(17):
        module.launch("address_kernel", 1, 1, [values[start:], values[start + 3 :], out])
        assert (out[0].item() - values[start:].data_ptr()) % 16 == 0
        assert out[1] - out[0] == 3
        assert out[0] != values[start:].data_ptr()


def test_tensors_in_structs_are_guarded_by_field(module):
    source, out = torch.arange(8.0), torch.zeros(8)
    params = struct_argument(Params, {"input": source, "output": out[:4]})
    module.launch("struct_kernel", 1, 4, [params])
    assert out.tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    message = message_of(lambda: module.launch("struct_kernel", 1, 5, [params]))
    assert "byte 16 of output, which has 16 bytes" in message


def test_a_table_of_addresses_reaches_the_tensors_themselves(module):
    out = torch.zeros(4)
    module.launch("table_kernel", 1, 4, [torch.tensor([out.data_ptr()])])
    assert (out == 1).all()


def test_an_executor_gets_the_tensors_themselves(module):
    source, out, seen = torch.arange(4.0), torch.zeros(4), []
    with module.run_through(seen.append):
        module.launch("shift_kernel", 1, 4, [source, out])
    assert seen[0].arguments[0] == source.data_ptr().to_bytes(8, "little")
    module.launch("shift_kernel", 1, 4, [source, out])
    assert torch.equal(out, source)
