"""Shared by all tests: what the registry holds and which backends this machine can run."""

import pytest
import torch

from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.registry import select
from lisa_kernels.testing.plan import unavailable

CPU = torch.device("cpu")
SPECS = select()
# (spec, backend) for every backend that runs on this machine's CPU: without a compiler only the reference.
RUNNABLE = [(spec, backend) for spec in SPECS for backend in BACKENDS if unavailable(spec, backend, CPU) is None]


def pytest_generate_tests(metafunc):
    """Run a test for each op (``spec``) or op and backend (``spec, backend``); ``gradient``: of ops that have one."""
    if {"spec", "backend"} <= set(metafunc.fixturenames):
        of_gradients = metafunc.definition.get_closest_marker("gradient") is not None
        pairs = [(spec, backend) for spec, backend in RUNNABLE if spec.differentiable or not of_gradients]
        metafunc.parametrize(("spec", "backend"), pairs, ids=[f"{spec.name}-{backend}" for spec, backend in pairs])
    elif "spec" in metafunc.fixturenames:
        metafunc.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])


@pytest.fixture
def single_thread():
    """One CPU thread: operations on tiny tensors are several times slower with two on busy cores."""
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(previous)
