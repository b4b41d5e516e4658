"""Marks for what depends on the version of Triton."""

import pytest
import triton

_VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])

# These tests state what stock Triton computes wrong, and notice when it is mended: move them with the pinned version.
states_stock = pytest.mark.skipif(
    _VERSION != (3, 9), reason=f"states what Triton 3.9 does; this is {triton.__version__}"
)

# Earlier interpreters refuse them with an error of their own.
needs_fnuz = pytest.mark.skipif(_VERSION < (3, 8), reason=f"needs triton>=3.8; this is {triton.__version__}")
needs_scaled_dot = needs_fnuz
needs_poll = pytest.mark.skipif(_VERSION < (3, 9), reason=f"needs triton>=3.9; this is {triton.__version__}")
