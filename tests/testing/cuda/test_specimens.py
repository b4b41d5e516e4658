"""The specimens on the host, under every order of threads; with sanitizers; and through nvcc."""

import pytest
import torch

from lisa_kernels.testing import assert_matches
from lisa_kernels.testing.cuda import compile_cubin, compile_ptx
from tests.specimens.cuda.specimens import CUDA_SPECIMENS
from tests.testing.cuda.conftest import CACHE

SPECIMENS = pytest.mark.parametrize("specimen", CUDA_SPECIMENS.values(), ids=CUDA_SPECIMENS)


def judge(module, specimen, seed, threads=None):
    fields = specimen.make_fields(0)
    expected = specimen.expected(fields)
    module.launch(
        specimen.kernel,
        specimen.grid,
        specimen.block,
        specimen.args(fields),
        shared_bytes=specimen.shared_bytes,
        seed=seed,
        threads=threads,
    )
    got = fields[specimen.output]
    if got.dtype == torch.int32:
        assert torch.equal(got.double(), expected)
    else:
        assert_matches(got, expected, depth=specimen.depth, name=specimen.name)


@SPECIMENS
def test_values_are_right_in_every_order_of_threads(build, specimen):
    module = build(specimen.source)
    for seed in (None, 0, 1, 2, 3):
        judge(module, specimen, seed)


@SPECIMENS
def test_values_are_right_on_one_os_thread(build, specimen):
    judge(build(specimen.source), specimen, 4, threads=1)


@pytest.mark.prove
@SPECIMENS
def test_many_orders_of_threads(build, specimen):
    module = build(specimen.source)
    for seed in range(200):
        judge(module, specimen, seed)


@pytest.mark.prove
@SPECIMENS
def test_sanitizers_find_nothing_and_values_are_right(build, specimen):
    module = build(specimen.source, sanitize=True)
    for seed in (None, 1, 2):
        judge(module, specimen, seed)


@SPECIMENS
def test_the_same_file_goes_through_nvcc(nvcc, specimen):
    ptx = compile_ptx(specimen.source, "sm_80", cache=CACHE)
    assert f".entry {specimen.kernel}(" in ptx
    assert ".loc" in ptx


@pytest.mark.prove
@SPECIMENS
def test_machine_code_spills_nothing(nvcc, specimen):
    cubin = compile_cubin(specimen.source, "sm_90a", cache=CACHE)
    assert cubin.code.startswith(b"\x7fELF")
    assert "0 bytes spill stores, 0 bytes spill loads" in cubin.usage
