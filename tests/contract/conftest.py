"""Contract tests: generic over every op's spec."""

import pytest


@pytest.fixture(autouse=True)
def _single_thread(single_thread):
    """The judge itself tries other thread counts."""
