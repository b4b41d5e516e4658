"""Arguments are what the kernel takes, or the message says what it takes."""

import ctypes

import numpy as np
import pytest
import torch

from lisa_kernels.testing.cuda import struct_argument


class Inner(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p * 2),)


class Params(ctypes.Structure):
    _fields_ = (("inner", Inner), ("rows", ctypes.c_int32))


SOURCE = """
struct Inner { float* data[2]; };
struct Params { Inner inner; int rows; };
__global__ void kinds_kernel(const float* input, float* output, short small, bool flag, float scale) {
  if (threadIdx.x < small && flag) output[threadIdx.x] = input[threadIdx.x] * scale;
}
__global__ void nested_kernel(const Params p) {
  if (threadIdx.x < p.rows) p.inner.data[1][threadIdx.x] = p.inner.data[0][threadIdx.x];
}
namespace a { __global__ void twice_kernel() {} }
namespace b { __global__ void twice_kernel() {} }
"""


@pytest.fixture
def module(build):
    return build(SOURCE)


def test_tensors_arrays_and_numbers_are_taken(module):
    out = np.zeros(8, np.float32)
    module.launch("kinds_kernel", 1, 8, [torch.arange(8.0), out, 6, True, 0.5])
    assert out.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (
            0,
            torch.zeros(8, dtype=torch.float64),
            TypeError,
            r"argument 0 .* dtype torch.float64; it takes torch.float32",
        ),
        (0, 3, TypeError, "argument 0 of kinds_kernel is a int; it takes a CPU tensor"),
        (0, torch.zeros(8, device="meta"), ValueError, "is on meta; it takes CPU tensors"),
        (2, 1 << 15, ValueError, "argument 2 .* does not fit into 16 bits"),
        (2, 1.5, TypeError, "argument 2 of kinds_kernel is 1.5; it takes an integer"),
        (3, 2, ValueError, "does not fit"),
        (4, "x", TypeError, "argument 4 of kinds_kernel is a str; it takes a number"),
    ],
)
def test_a_wrong_argument_is_named(module, position, value, error, message):
    args = [torch.zeros(8), torch.zeros(8), 8, True, 1.0]
    args[position] = value
    with pytest.raises(error, match=message):
        module.launch("kinds_kernel", 1, 8, args)


def test_the_number_of_arguments_is_checked(module):
    with pytest.raises(ValueError, match="gets 1 arguments; it takes 5: pf4 pf4 i2 b1 f4"):
        module.launch("kinds_kernel", 1, 8, [torch.zeros(8)])


def test_a_struct_of_another_size_is_refused(module):
    with pytest.raises(ValueError, match="has 16 bytes; the kernel's struct has 24"):
        module.launch("nested_kernel", 1, 8, [Inner()])


@pytest.mark.prove
def test_pointers_inside_structs_and_arrays_reach_the_sanitized_process(build):
    source, out = torch.arange(8.0), torch.zeros(8)
    params = struct_argument(Params, {"rows": 8})
    params.value.inner.data[0], params.value.inner.data[1] = source.data_ptr(), out.data_ptr()
    module = build(SOURCE, sanitize=True)
    with pytest.raises(ValueError, match="none of its tensors"):
        module.launch("nested_kernel", 1, 8, [params])


def test_pointers_inside_structs_and_arrays_are_taken(module):
    source, out = torch.arange(8.0), torch.zeros(8)
    params = Params(Inner((ctypes.c_void_p * 2)(source.data_ptr(), out.data_ptr())), 8)
    module.launch("nested_kernel", 1, 8, [params], seed=1)
    assert torch.equal(out, source)


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="Params has no field columns; it has inner, rows"):
        struct_argument(Params, {"columns": 3})


def test_an_unknown_kernel_is_named(module):
    with pytest.raises(ValueError, match="no kernel other_kernel; it takes one of kinds_kernel, nested_kernel"):
        module.launch("other_kernel", 1, 1, [])


def test_two_kernels_of_one_name_are_not_guessed(module):
    with pytest.raises(ValueError, match="several namespaces"):
        module.launch("twice_kernel", 1, 1, [])


def test_a_negative_seed_is_refused(module):
    with pytest.raises(ValueError, match="seed is -1"):
        module.launch("nested_kernel", 1, 1, [Params()], seed=-1)
