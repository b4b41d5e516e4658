"""Launchers run unchanged when C++ calls them, and every launch goes through one door."""

import ctypes

import pytest
import torch

from lisa_kernels.testing.cuda import HostFault
from tests.testing.cuda.conftest import KERNELS


@pytest.fixture
def launchers(build):
    return build(KERNELS / "launchers.cu", callers=(KERNELS / "caller.cpp",))


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_launcher_called_from_cpp_copies_launches_and_copies_back(launchers, seed):
    numbers, out = torch.arange(300.0, dtype=torch.float64), torch.zeros(300, dtype=torch.float64)
    assert launchers.call("scale_on_device", pointer(numbers), pointer(out), ctypes.c_int64(300), seed=seed) == 0
    assert torch.equal(out, numbers * 3)


def test_shared_memory_above_48_kib_must_be_asked_for(launchers):
    out = torch.zeros(64)
    with pytest.raises(HostFault, match="cudaFuncSetAttribute"):
        launchers.call("use_large_shared", pointer(out), ctypes.c_bool(False))
    assert launchers.call("use_large_shared", pointer(out), ctypes.c_bool(True)) == 0
    assert (out == 1).all()


def test_an_empty_grid_comes_back_as_the_runtime_s_error(launchers):
    with pytest.raises(HostFault, match="launch refused"):
        launchers.call("scale_floats", None, None, ctypes.c_int64(0))


def test_every_launch_goes_through_the_executor_that_is_plugged_in(launchers):
    numbers, out = torch.arange(300.0), torch.zeros(300)
    seen = []
    with launchers.run_through(seen.append):
        launchers.call("scale_floats", pointer(numbers), pointer(out), ctypes.c_int64(300))
    assert (out == 0).all()
    (launch,) = seen
    assert launch.kernel == "scale_kernel<float, 3>"
    assert (launch.grid, launch.block, launch.shared_bytes) == ((3, 1, 1), (128, 1, 1), 0)
    (params,) = launch.arguments
    assert int.from_bytes(params[:8], "little") == numbers.data_ptr()
    assert int.from_bytes(params[16:24], "little") == 300
    launchers.call("scale_floats", pointer(numbers), pointer(out), ctypes.c_int64(300))
    assert torch.equal(out, numbers * 3)


def test_an_error_of_the_executor_reaches_the_caller(launchers):
    def broken(launch):
        raise KeyError(launch.kernel)

    with pytest.raises(KeyError, match="scale_kernel"), launchers.run_through(broken):
        launchers.call("scale_floats", None, None, ctypes.c_int64(300))


def test_the_executor_sees_the_ptx_name_of_a_kernel(values):
    seen = []
    with values.run_through(seen.append):
        values.launch("lisa::sum_kernel<64>", 2, 64, [torch.zeros(4), torch.zeros(1), 4])
    assert seen[0].symbol == "_ZN4lisa10sum_kernelILi64EEEvPKfPfi"


def test_launches_that_others_make_are_ordered_and_their_faults_raised(launchers):
    scale = ctypes.CDLL(str(launchers.path)).scale_floats
    numbers, out = torch.arange(300.0), torch.zeros(300)
    with launchers.ordered(seed=1):
        assert scale(pointer(numbers), pointer(out), ctypes.c_int64(300)) == 0
    assert torch.equal(out, numbers * 3)
    with pytest.raises(HostFault, match="out of bounds"), launchers.ordered(seed=1):
        assert scale(None, pointer(out), ctypes.c_int64(300)) != 0


def test_the_first_fault_is_the_one_that_is_told_and_nothing_runs_after_it(launchers):
    done = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(HostFault, match="trap: __trap"):
        launchers.call("go_on_after_fault", pointer(done))
    assert done.item() == 0


def test_an_unknown_host_function_is_named(launchers):
    with pytest.raises(ValueError, match="no_such_function"):
        launchers.call("no_such_function")
