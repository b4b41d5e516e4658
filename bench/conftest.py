"""The allocator, fixed once for a session of ``pytest bench --benchmark-only``."""

from __future__ import annotations

import pytest

from bench import machine


@pytest.fixture(scope="session", autouse=True)
def _fixed_allocator() -> None:
    print(machine.fix_allocator())
