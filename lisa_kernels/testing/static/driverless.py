"""Launches that are written ``kernel[grid](...)``, collected where no GPU is: Triton stops before it compiles.

A program may choose Triton's driver (``triton.runtime.driver.set_active``), and it may see each launch that is not
compiled yet and stop it there (``triton.knobs.runtime.jit_cache_hook``).  Signature, constants and alignment are those
that Triton itself found for the launch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from lisa_kernels.core.launch import LaunchRecord
from lisa_kernels.core.targets import TARGETS

# What ``core.tiling.Tile`` always gives; other options are kept where they are not Triton's default.
_LAUNCH_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


@contextlib.contextmanager
def record_driverless(target: str) -> Iterator[list[LaunchRecord]]:
    """Collect the launches of ``@triton.jit`` functions in the block instead of running them.

    Their records have no grid, which Triton does not tell before it compiles; compiled code does not depend on it.

    Args:
        target: A key of ``core.targets.TARGETS`` with a compiler.

    Raises:
        ValueError: A launch asks the driver for more than its target, as ``@triton.autotune`` does, or has tuples among
            its arguments.
    """
    import triton

    driver, launches = _AbsentGpu(target), []

    def note(*, fn: Any, compile: Mapping[str, Any], **_: Any) -> bool:
        launches.append(_record(fn.jit_function, compile, driver.defaults()))
        return True

    try:
        previous = triton.runtime.driver.active
    except RuntimeError:
        # No GPU: Triton asks again at the next launch.
        previous = None
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.jit_cache_hook = note
        triton.runtime.driver.set_active(driver)
        try:
            yield launches
        finally:
            triton.runtime.driver.set_active(previous)


class _AbsentGpu:
    """As much of a driver as a launch asks for before it compiles."""

    def __init__(self, target: str) -> None:
        self._name, self._target = target, TARGETS[target]

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(self._target.backend, self._target.arch, self._target.warp_size)

    def get_current_device(self) -> str:
        # Kernels remember the target of each device by this key.
        return f"no GPU, compiling for {self._name}"

    def get_current_stream(self, device: str) -> int:
        return 0

    def defaults(self) -> dict[str, Any]:
        """Return the options of a launch that gives none."""
        from triton.compiler import make_backend

        return vars(make_backend(self.get_current_target()).parse_options({}))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise ValueError(
            f"collect_from: a launch asks the driver for {name}, and there is no GPU; it takes plain @triton.jit "
            "functions. Of an @triton.autotune kernel launch kernel.fn with the configuration to look at."
        )


def _record(kernel: Any, told: Mapping[str, Any], defaults: Mapping[str, Any]) -> LaunchRecord:
    """Return the record of a launch as ``JITFunction`` describes it to its hooks."""
    names = kernel.arg_names
    if nested := [names[place[0]] for place in told["constants"] if len(place) > 1] or [
        name for name, kind in told["signature"].items() if not isinstance(kind, str)
    ]:
        raise ValueError(
            f"collect_from: {kernel.__name__} is given a tuple for {nested[0]}; it takes tensors, numbers, bool, None "
            "and descriptors. Hand the entries over one by one."
        )
    constants = {names[place]: value for (place,), value in told["constants"].items()}
    # An argument without a known property has an empty list, which compiles to the same.
    attrs = {place: found for place, found in told["configs"][0].items() if found}
    options = json.loads(told["specialization_data"])["options"]
    chosen = {name: options[name] for name in _LAUNCH_OPTIONS} | {
        name: value
        for name, value in options.items()
        if isinstance(value, (bool, int, float, str)) and value != defaults.get(name)
    }
    return LaunchRecord(kernel, (), dict(told["signature"]), constants, attrs, chosen)
