"""Compiled kernels, shared by all tests and kept between runs in ``build/cuda-tests``."""

import functools
import pathlib

import pytest

from lisa_kernels.testing.cuda import HostModule, why_no_host, why_no_nvcc

KERNELS = pathlib.Path(__file__).resolve().parent / "kernels"
CACHE = pathlib.Path(__file__).resolve().parents[3] / "build" / "cuda-tests"


@functools.cache
def built(source, **options):
    return HostModule.build(source, cache=CACHE, **options)


@pytest.fixture
def build():
    """``HostModule.build`` with the tests' cache."""
    if reason := why_no_host():
        pytest.skip(f"needs the host: {reason}")
    return built


@pytest.fixture
def nvcc():
    if reason := why_no_nvcc():
        pytest.skip(f"needs nvcc: {reason}")


@pytest.fixture
def values(build):
    return build(KERNELS / "values.cu", instantiate=("lisa::sum_kernel<256>", "lisa::sum_kernel<64>"))


@pytest.fixture
def faults(build):
    return build(KERNELS / "faults.cu")


@pytest.fixture
def sanitized_faults(build):
    return build(KERNELS / "faults.cu", sanitize=True)
