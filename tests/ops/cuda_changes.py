"""CUDA sources with one line changed, run on the host."""

import shutil
import subprocess
import sys

from lisa_kernels.testing.cuda.ops import op_sources


def run_changed(op, change, code, folder):
    """Return the finished process that ran ``code`` on a changed copy of an op's kernels, ``sys.argv[1]``.

    A process of its own, since one can hold the ops of one library only.

    Args:
        op: Name of the op's folder.
        change: File in that folder, a piece of it that stands there once, and what takes its place.
        code: Python; prints what the kernels return.
        folder: Where the copy goes.
    """
    file, right, wrong = change
    (source,) = [path for path in op_sources() if path.stem == op]
    csrc = source.parents[2]
    shutil.copytree(csrc, folder / "csrc")
    changed = folder / "csrc" / "ops" / op / file
    assert changed.read_text().count(right) == 1
    changed.write_text(changed.read_text().replace(right, wrong))
    command = [sys.executable, "-c", code, str(changed.with_name(source.name))]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=csrc.parent)
