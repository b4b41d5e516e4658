"""The backends that run on this machine's CPU: every op has both."""

import pytest

from lisa_kernels.core import native

BACKENDS = ("cpu", "reference") if native.module() is not None else ("reference",)
needs_cpu = pytest.mark.skipif("cpu" not in BACKENDS, reason=f"needs the native extension: {native.why_not()}")
