"""Everything here needs a process that interprets Triton kernels."""

from pathlib import Path

import pytest

from lisa_kernels.core.config import read_settings

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    if read_settings().interpret:
        return
    skip = pytest.mark.skip(reason="run with TRITON_INTERPRET=1; `make test` does")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(skip)
