"""``python -m bench run``: every provider of every case, interleaved, and their ratios."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench import gate, machine, memory
from bench.providers import (
    BACKENDS,
    COPY,
    LIMITS,
    PRODUCTS,
    READ,
    Absent,
    Provider,
    build,
    chosen_backend,
    make_case_inputs,
    provider_names,
)
from bench.rows import TIMED, Row, table, write_json
from bench.timing import CudaClock, HostClock, Stats, interleave, make_clock
from lisa_kernels.core import registry
from lisa_kernels.core.spec import Case, OpSpec

# bf16 where the op has it: the dtype of training, and half the traffic.
_DTYPES = (torch.float32, torch.bfloat16)
_QUICK_DTYPES = (torch.float32,)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        ops: Folders or functions; all for none.
        cases: Names of cases; all for none.
        rounds: Turns of each provider.
        threads: CPU threads, None for torch's default.
        one_thread: Read the CPU time of one thread.
        quick: fp32 alone, no peers with slow starts.
    """

    ops: tuple[str, ...] = ()
    device: str = "cpu"
    cases: tuple[str, ...] = ()
    rounds: int = 25
    threads: int | None = None
    one_thread: bool = False
    quick: bool = False
    json: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class _Setting:
    """What all rows of a run have in common."""

    options: Options
    device: torch.device
    clock: HostClock | CudaClock
    stamp: dict[str, Any]


def run(options: Options, say: Callable[[str], None] = print) -> int:
    """Time everything asked for, print it, and return the exit code: 1 where one of ours was not timed for a fault.

    Raises:
        ValueError: An op, case or device that does not exist, or options that exclude each other.
    """
    jobs = _jobs(options)
    setting = _prepare(options)
    say(_heading(setting))
    rows, explained = [], set()
    for spec, dtype, case in jobs:
        if spec.name not in explained:
            explained.add(spec.name)
            say(f"\n{spec.explain(**make_case_inputs(spec, spec.cases[0], dtype, setting.device))}")
        found = time_case(spec, case, dtype, setting)
        sizes = " ".join(f"{letter}={size}" for letter, size in case.sizes.items())
        say("\n".join([f"\n{spec.name}, {case.name}: {sizes}, {_short(dtype)}", *table(found)]))
        rows += found
        if options.json:
            # After each case: a run that is killed leaves what it timed.
            write_json(options.json, rows)
    say("\n* ours: ratio is a provider's median over that of *; limit is the time to read (fwd) or read and write once")
    say("  or, where the table has it, of as many operations by torch.mm")
    if options.json:
        say(f"{len(rows)} rows in {options.json}")
    faults = [row for row in rows if row.provider.startswith("lisa ") and row.status not in (TIMED, "unavailable")]
    return 1 if faults else 0


def time_case(spec: OpSpec, case: Case, dtype: torch.dtype, setting: _Setting) -> list[Row]:
    """Return the rows of one case: all providers in all modes, or those that say why not."""

    def row(provider: str, mode: str, **figures: Any) -> Row:
        head = {"op": spec.name, "case": case.name, "provider": provider, "dtype": _short(dtype), "mode": mode}
        return Row(**head, sizes=dict(case.sizes), **setting.stamp, **figures)

    def explain_absence(absent: Sequence[Absent]) -> list[Row]:
        return [row(a.name, "fwd+bwd", status=a.status, reason=a.reason) for a in absent]

    red = gate.verify(spec, case, dtype, setting.device, BACKENDS[setting.device.type])
    if red:
        return explain_absence(red)
    kwargs = make_case_inputs(spec, case, dtype, setting.device)
    names = provider_names(spec, setting.device)
    providers, absent = build(spec, case, kwargs, names=names, quick=setting.options.quick)
    ours = chosen_backend(spec, kwargs)
    providers, different = gate.split_different(providers, ours)
    stats = interleave(providers, setting.clock.laps, rounds=setting.options.rounds)
    by_name = {provider.name: found for provider, found in zip(providers, stats, strict=True)}
    rows = []
    for provider in providers:
        peaks = {} if provider.name in LIMITS else measure_memory(provider, setting.device)
        for mode, found in by_name[provider.name].items():
            figures = _compare(found, mode, by_name.get(f"lisa {ours}", {}), by_name)
            rows.append(row(provider.name, mode, **figures, **peaks.get(mode, {}), ours=provider.backend == ours))
    return rows + explain_absence([*absent, *different])


def measure_memory(provider: Provider, device: torch.device) -> dict[str, dict[str, float]]:
    """Return, by mode, the peak memory in MiB beyond that at the mode's start, and the size of the gradients."""
    sizes = {"fwd": 0, "bwd": 0, "fwd+bwd": 0}

    def backward(result: Any) -> Any:
        gradients = provider.backward(result)
        sizes["bwd"] = sizes["fwd+bwd"] = sum(gradient.nbytes for gradient in gradients)
        return gradients

    with provider.around():
        peaks = memory.peak_bytes(provider.forward, backward, device)
    return {
        mode: {"peak_mib": peaks[mode] / memory.MIB, "gradient_mib": sizes[mode] / memory.MIB}
        for mode in provider.modes
        if mode in peaks
    }


def _compare(found: Stats, mode: str, ours: dict[str, Stats], by_name: dict[str, dict[str, Stats]]) -> dict[str, Any]:
    figures = dataclasses.asdict(found)
    if mode in ours:
        figures["ratio_median"] = found.median_ms / ours[mode].median_ms
        figures["ratio_min"] = found.min_ms / ours[mode].min_ms
    limit = by_name.get(PRODUCTS, by_name.get(READ if mode == "fwd" else COPY, {}))
    if mode in limit:
        figures["limit_share"] = limit[mode].median_ms / found.median_ms
    return figures


def _jobs(options: Options) -> list[tuple[OpSpec, torch.dtype, Case]]:
    specs = registry.select(options.ops)
    known = {case.name for spec in specs for case in spec.bench}
    if unknown := [name for name in options.cases if name not in known]:
        raise ValueError(f"bench: --case is {unknown[0]!r}; it takes {', '.join(map(repr, sorted(known)))}.")
    dtypes = _QUICK_DTYPES if options.quick else _DTYPES
    return [
        (spec, dtype, case)
        for spec in specs
        for dtype in dtypes
        if dtype in spec.dtypes
        for case in spec.bench
        if not options.cases or case.name in options.cases
    ]


def make_room(path: pathlib.Path) -> None:
    """Make the folder of a file that is written at the end: minutes of timing must not be lost for a wrong path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"bench: --json is {str(path)!r}; its folder cannot be made ({error.strerror}).") from error
    if path.is_dir():
        raise ValueError(f"bench: --json is {str(path)!r}, a folder; it takes a file.")


def _prepare(options: Options) -> _Setting:
    if options.device not in BACKENDS:
        raise ValueError(f"bench: --device is {options.device!r}; it takes {' or '.join(BACKENDS)}.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("bench: --device is 'cuda' and torch sees no GPU; it takes cpu here.")
    if options.rounds < 1:
        raise ValueError(f"bench: --rounds is {options.rounds}; it takes 1 or more.")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"bench: --threads is {options.threads}; it takes 1 or more.")
    if options.json is not None:
        make_room(options.json)
    if options.one_thread and options.threads not in (None, 1):
        raise ValueError(f"bench: --threads is {options.threads} beside --one-thread; it takes 1 or nothing there.")
    device = torch.device(options.device)
    clock = make_clock(device, one_thread=options.one_thread)
    if (threads := 1 if options.one_thread else options.threads) is not None:
        torch.set_num_threads(threads)
    stamp = {
        "threads": torch.get_num_threads(),
        "device": device.type,
        "commit": machine.find_commit(),
        "clock": clock.name,
        "machine": machine.name_machine(device),
        "torch": torch.__version__,
    }
    return _Setting(options, device, clock, stamp)


def _heading(setting: _Setting) -> str:
    stamp = setting.stamp
    lines = [
        f"{stamp['machine']}, {stamp['device']}, {stamp['threads']} threads, torch {stamp['torch']}, {stamp['commit']}",
        f"clock: {stamp['clock']}; {setting.options.rounds} rounds, providers take turns",
        machine.fix_allocator() if setting.device.type == "cpu" else "allocator: torch's own",
        machine.describe_load(),
    ]
    return "\n".join(lines)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
