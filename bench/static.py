"""``python -m bench static``: compile every shipped configuration for GPUs that are not here, and judge the code."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence

from bench.run import make_room
from lisa_kernels.core import registry
from lisa_kernels.core.config import read_settings
from lisa_kernels.core.spec import OpSpec
from lisa_kernels.core.targets import TARGETS
from lisa_kernels.testing.static.collect import Collection, collect, collect_from
from lisa_kernels.testing.static.compile_jobs import analyze_jobs
from lisa_kernels.testing.static.cuda_kernel import analyze_cuda, readable_name
from lisa_kernels.testing.static.gates import Allowance, judge, read_allowances
from lisa_kernels.testing.static.record import find, read_record, record_path, write_record
from lisa_kernels.testing.static.table import Row, allowed, failures, table, trust_line, unused

RECORDED = pathlib.Path(__file__).parent / "recorded"
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_CACHE = pathlib.Path("build/static")
COMPILED_TARGETS = tuple(name for name, target in TARGETS.items() if target.backend)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compile.

    Attributes:
        ops: Folders or functions; all for none.
        targets: Keys of ``core.targets.TARGETS``.
        source: ``module:function`` of somebody's own launches, instead of ops.
        json: Also write the rows there.
        record: Keep the figures of this run as those that later ones are held against.
        recorded: Folder of the kept figures and of ``allowed.json``.
        cache: Folder that keeps figures by content; None for none.
        workers: Processes.
    """

    ops: tuple[str, ...] = ()
    targets: tuple[str, ...] = COMPILED_TARGETS
    source: str | None = None
    json: pathlib.Path | None = None
    record: bool = False
    recorded: pathlib.Path = RECORDED
    cache: pathlib.Path | None = _CACHE
    workers: int = 2


def run(options: Options, say: Callable[[str], None] = print) -> int:
    """Compile, print and judge; return the exit code, 1 where a gate failed or a kernel has no figures.

    Raises:
        ValueError: An op, target or function that does not exist, no Triton, or a process that interprets its kernels.
    """
    _check(options)
    if options.json is not None:
        make_room(options.json)
    return judge_all(_collections(options), options, say)


def judge_all(
    collections: Iterable[tuple[Collection, list[Row]]], options: Options, say: Callable[[str], None] = print
) -> int:
    """Compile, print and judge launches, and rows of CUDA kernels beside them; the exit code is that of ``run``."""
    allowances = read_allowances(options.recorded / "allowed.json")
    rows: list[Row] = []
    for collection, cuda in collections:
        found = _judged(_triton_rows(collection, options) + cuda, options.recorded, allowances)
        rows += found
        say("\n".join(_section(collection, found)))
    toolchains = sorted({row.figures.toolchain for row in rows if row.figures})
    say(f"\n{trust_line(toolchains)}")
    for line in _closing(rows, options, toolchains):
        say(line)
    is_all = not options.ops and options.source is None and options.targets == COMPILED_TARGETS
    if is_all and (needless := list(unused(allowances, rows))):
        say("\n".join(["\nExceptions that nothing needs any more: take them out", *needless]))
    if options.json is not None:
        options.json.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
        say(f"{len(rows)} rows in {options.json}")
    return 1 if any(row.failed for row in rows) else 0


def cuda_sources(folder: str) -> list[pathlib.Path]:
    """Return the CUDA sources of an op folder."""
    return sorted((_ROOT / "csrc" / "ops" / folder).glob("*.cu"))


def analyze_sources(op: str, sources: Iterable[pathlib.Path], targets: Iterable[str]) -> list[Row]:
    """Return a row without verdicts for each kernel of CUDA sources and each NVIDIA target.

    Shared memory given at launch is not counted: only the host code knows it.
    """
    rows = []
    for source in sources:
        for target in targets:
            if TARGETS[target].backend != "cuda":
                continue
            try:
                kernels = analyze_cuda(source, target, include_dirs=[_ROOT / "csrc"])
            except (RuntimeError, ValueError) as error:
                rows.append(Row(op, source.name, target, None, str(error).splitlines()[0]))
                continue
            rows += [Row(op, f"{source.name} {readable_name(k.kernel)} {k.kernel}", target, k) for k in kernels]
    return rows


def _check(options: Options) -> None:
    if unknown := [name for name in options.targets if name not in COMPILED_TARGETS]:
        raise ValueError(f"bench static: --target is {unknown[0]!r}; it takes {', '.join(COMPILED_TARGETS)}.")
    if importlib.util.find_spec("triton") is None:
        raise ValueError(
            "bench static: triton is not installed, its compiler and disassembler are needed: pip install "
            "'triton>=3.6,<3.10'."
        )
    if read_settings().interpret:
        raise ValueError("bench static: TRITON_INTERPRET=1 makes this process an interpreter; unset it to compile.")
    if options.source is not None and options.ops:
        raise ValueError(f"bench static: OP is {options.ops[0]!r} beside --from; it takes one of them.")


def _collections(options: Options) -> Iterable[tuple[Collection, list[Row]]]:
    """Yield the launches of each op or of ``--from``, with the rows of its CUDA kernels."""
    if options.source is not None:
        yield collect_from(_load(options.source), options.targets, name=options.source), []
        return
    seen: set[str] = set()
    for spec in registry.select(options.ops):
        folder = _folder(spec)
        # Two functions of one folder share its CUDA sources.
        sources = [] if folder in seen else cuda_sources(folder)
        seen.add(folder)
        yield collect(spec, options.targets), analyze_sources(spec.name, sources, options.targets)


def _folder(spec: OpSpec) -> str:
    return next(folder for folder in registry.folders() if spec in registry.specs(folder))


def _load(source: str) -> Callable[[], object]:
    module, _, name = source.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"bench static: --from is {source!r}; it takes module:function ({error}).") from error
    if not callable(function):
        raise ValueError(f"bench static: --from is {source!r}; it takes a function, this is {type(function).__name__}.")
    return function


def _triton_rows(collection: Collection, options: Options) -> list[Row]:
    outcomes = analyze_jobs(collection.jobs, workers=options.workers, cache=options.cache)
    return [
        Row(o.job.op, o.job.name, o.job.target, o.figures, o.reason, o.job.cases, real_size=o.job.real_size)
        for o in outcomes
    ]


def _judged(rows: Sequence[Row], recorded: pathlib.Path, allowances: Sequence[Allowance]) -> list[Row]:
    records = {}
    judged = []
    for row in rows:
        if row.figures is None:
            judged.append(row)
            continue
        toolchain = row.figures.toolchain
        if toolchain not in records:
            records[toolchain] = read_record(recorded, toolchain)
        before = find(records[toolchain], row.op, row.target, row.name)
        verdicts = judge(row.figures, name=row.name, recorded=before, allowances=allowances, real_size=row.real_size)
        judged.append(dataclasses.replace(row, verdicts=tuple(verdicts)))
    return judged


def _section(collection: Collection, rows: Sequence[Row]) -> list[str]:
    if not rows:
        reasons = "; ".join(collection.notes)
        return [f"\n{collection.op}: " + (f"nothing to compile: {reasons}" if reasons else "no GPU kernels yet")]
    lines = [f"\n{collection.op}: {len(rows)} compiled", *table(rows)]
    lines += [f"  note: {note}" for note in collection.notes]
    lines += [f"  never reached by a case: {row}" for row in collection.unreached]
    return lines


def _closing(rows: Sequence[Row], options: Options, toolchains: Sequence[str]) -> Iterable[str]:
    for toolchain in toolchains:
        found = [row for row in rows if row.figures and row.figures.toolchain == toolchain]
        if options.record:
            entries = [(row.op, row.target, row.name, row.figures) for row in found]
            yield f"{len(entries)} kernels recorded in {write_record(options.recorded, toolchain, entries)}"
        elif not record_path(options.recorded, toolchain).is_file():
            yield f"no record for {toolchain}: figures are not compared. Record them: python -m bench static --record"
        elif new := sum(v.gate == "ceiling" and v.text == "not recorded" for row in found for v in row.verdicts):
            yield f"{new} of {len(found)} kernels are not in the record of {toolchain}: python -m bench static --record"
    if exceptions := list(allowed(rows)):
        yield "\nAllowed"
        yield from exceptions
    if faults := list(failures(rows)):
        yield "\nFailed"
        yield from faults
