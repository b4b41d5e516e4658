"""Fixtures of the tests of ops."""

import pytest

import lisa_kernels
from tests.ops.backends import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request, single_thread):
    """The backend's name; it runs every op of the test, on one thread."""
    with lisa_kernels.use_backend(request.param):
        yield request.param
