"""The examples of ``docs`` do what the text says."""

import importlib.util
import subprocess
import sys

import pytest

from tests.architecture.sources import ROOT

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)


def errors_of(example, interpret):
    command = ["env", f"TRITON_INTERPRET={interpret}", sys.executable, str(ROOT / "docs/examples" / example)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


@needs_triton
def test_the_sanitizer_names_both_faults_of_the_example_with_their_lines():
    errors = errors_of("column_sum.py", interpret=1)
    assert "column_sum.py:18: out of bounds: load 1 element past the end of x_ptr" in errors
    assert "column_sum.py:20: two programs write: store of out_ptr[0]" in errors


@needs_triton
def test_the_emulator_names_the_race_of_the_example_with_its_line():
    errors = errors_of("column_sum.py", interpret=0)
    assert "global race" in errors
    assert "column_sum.py:19" in errors
    assert "argument 1 (out_ptr), byte 0" in errors
