"""Peak memory of a step, counted in the allocator of torch rather than read from the process's size.

Resident memory counts what malloc keeps, pages never touched, and other threads; it cannot tell one tensor more.
Memory that native code takes from malloc past torch's allocator is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import ProfilerConfig, ProfilerState
from torch.autograd.profiler import record_function

MIB = 2**20
_BACKWARD = "bench: backward starts"


def peak_bytes(forward: Callable[[], Any], backward: Callable[[Any], Any], device: torch.device) -> dict[str, int]:
    """Return, by mode, how many bytes of tensors a step holds at its peak, beyond those held when the mode starts.

    ``bwd`` starts with the graph built: what it frees of it makes room for what it allocates.
    """
    if device.type == "cuda":
        return _peak_cuda(forward, backward, device)
    # The older of torch's two profilers: the newer one writes two lines to stderr for each use.
    config = ProfilerConfig(
        ProfilerState.CPU, False, True, False, False, False, torch._C._profiler._ExperimentalConfig()
    )
    torch.autograd._enable_profiler_legacy(config)
    try:
        result = forward()
        with record_function(_BACKWARD):
            pass
        gradients = backward(result)
    finally:
        threads = torch.autograd._disable_profiler_legacy()
    del result, gradients
    main = next(thread for thread in threads if any(event.name() == _BACKWARD for event in thread))
    # Threads have no common clock here: the sum of their peaks is an upper bound.
    others = sum(_peak(_changes(thread)) for thread in threads if thread is not main)
    place = next(i for i, event in enumerate(main) if event.name() == _BACKWARD)
    before, after = list(_changes(main[:place])), list(_changes(main[place:]))
    return {
        "fwd": _peak(before) + others,
        "bwd": _peak(after) + others,
        "fwd+bwd": _peak(before + after) + others,
    }


def _changes(events: Iterable[Any]) -> Iterable[int]:
    return (event.cpu_memory_usage() for event in events)


def _peak(changes: Iterable[int]) -> int:
    held = peak = 0
    for change in changes:
        held += change
        peak = max(peak, held)
    return peak


def _peak_cuda(forward: Callable[[], Any], backward: Callable[[Any], Any], device: torch.device) -> dict[str, int]:
    """Not yet run on a GPU."""
    start = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = forward()
    middle, first = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    gradients = backward(result)
    second = torch.cuda.max_memory_allocated(device)
    del result, gradients
    return {"fwd": first - start, "bwd": second - middle, "fwd+bwd": max(first, second) - start}
