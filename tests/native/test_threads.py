"""The extension really runs in parallel, with one OpenMP runtime."""

import os
import pathlib

import pytest
import torch

from lisa_kernels.core import native

pytestmark = pytest.mark.skipif(native.module() is None, reason=f"needs the native extension: {native.why_not()}")


@pytest.mark.parametrize("asked", [1, 2, 4])
def test_loops_get_the_threads_they_ask_for(asked):
    """Built without OpenMP, a parallel loop runs on one thread, silently."""
    assert native.module().threads_used(asked) == asked


def test_a_kernel_uses_more_than_one_thread():
    """The clocks of two threads move while it runs."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    tasks = pathlib.Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("needs /proc to see the threads' clocks")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)

    def ticks() -> dict[str, int]:
        fields = {task.name: (task / "schedstat").read_text().split() for task in tasks.iterdir()}
        return {name: int(values[0]) for name, values in fields.items()}

    from lisa_kernels import ctc_loss

    logits = torch.randn(400, 8, 500)
    targets = torch.randint(1, 500, (8, 40))
    lengths = [400] * 8, [40] * 8
    ctc_loss(logits, targets, *lengths)
    before = ticks()
    for _ in range(20):
        ctc_loss(logits, targets, *lengths)
    torch.set_num_threads(threads)
    moved = [name for name, value in ticks().items() if value - before.get(name, 0) > 1_000_000]
    assert len(moved) >= 2, f"only threads {moved} worked for more than 1 ms"


def test_one_openmp_runtime_is_loaded():
    """Two runtimes would keep two pools of spinning threads on the same cores."""
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc to see the loaded libraries")
    lines = [line for line in maps.read_text().splitlines() if "gomp" in line or "libomp" in line or "iomp" in line]
    runtimes = {line.split()[-1] for line in lines if "torch" in line or "/lib" in line}
    from_others = {path for path in runtimes if "scikit" in path or "sklearn" in path}
    assert len(runtimes - from_others) == 1, runtimes
