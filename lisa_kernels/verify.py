"""Check every op's numerics on this machine: ``python -m lisa_kernels.verify [OP ...]``.

Values, gradients, edges, determinism, memory and bad input of every backend that can run, against the definition in
fp64.  Needs torch alone.  ``--backend interpreted``, ``emulated`` or ``host`` runs the GPU kernels without a GPU, see
``lisa_kernels.testing.engines``.  Exits with 0 when all passed, 1 after a failure, 2 for arguments it does not take.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

import torch

from lisa_kernels.core.config import BACKENDS, interpreter_environment, read_settings
from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import OpSpec
from lisa_kernels.testing.engines import DEFAULT_TARGETS, EMULATED_TARGETS, MEANS, find_engines
from lisa_kernels.testing.judge import lacks_kernels
from lisa_kernels.testing.plan import unavailable, verify_op
from lisa_kernels.testing.rows import FAILED, PASSED, SKIPPED, Row
from lisa_kernels.testing.table import details, summary, table


def main(argv: Sequence[str] | None = None) -> int:
    """Verify, print the table and return the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(argv)
    if arguments.backend == "interpreted" and not read_settings().interpret:
        # Triton's switch is read when kernels are decorated: a process of its own.
        command = [sys.executable, "-m", "lisa_kernels.verify", *argv]
        return subprocess.run(command, env=interpreter_environment(), check=False).returncode
    try:
        specs = select(arguments.op)
        device = _device(arguments.device)
        # LISA_BACKEND forces here as it does everywhere.
        backend = arguments.backend or read_settings().backend
        targets = _targets(arguments.target, backend)
        _check_backend(specs, backend, device, targets)
        _check_file(arguments.json)
    except ValueError as error:
        print(f"verify: {str(error).removeprefix('select: ')}", file=sys.stderr)
        return 2
    print(f"torch {torch.__version__}, device {_device_name(device)}, {torch.get_num_threads()} CPU threads")

    rows: list[Row] = []
    judged = (verify_op(spec, device=device, backend=backend, level=arguments.level, targets=targets) for spec in specs)
    for line in table(_keep(judged, rows)):
        print(line, flush=True)
    for line in details(rows):
        print(line)
    counts = summary(rows)
    if arguments.json:
        record = {**counts, "rows": [row.to_json() for row in rows]}
        pathlib.Path(arguments.json).write_text(json.dumps(record, indent=1) + "\n")
    nothing = "" if counts[PASSED] or counts[FAILED] else ": nothing was verified"
    print(f"\n{counts[PASSED]} passed, {counts[FAILED]} failed, {counts[SKIPPED]} skipped{nothing}")
    return 1 if counts[FAILED] else 0


def _keep(judged: Iterable[Iterator[Row]], kept: list[Row]) -> Iterator[Row]:
    """Yield every row, and keep it."""
    for rows in judged:
        for row in rows:
            kept.append(row)
            yield row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lisa_kernels.verify", description="Check the ops' numerics here.")
    parser.add_argument("op", nargs="*", metavar="OP", help="op or op folder (default: all)")
    parser.add_argument(
        "--backend", help=f"one of {', '.join(BACKENDS)} (default: every one that can run), or {', '.join(MEANS)}"
    )
    parser.add_argument(
        "--target",
        metavar="NAMES",
        help=f"of --backend emulated, some of {','.join(EMULATED_TARGETS)} (default: {','.join(DEFAULT_TARGETS)})",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    level = parser.add_mutually_exclusive_group()
    level.set_defaults(level="default")
    level.add_argument("--quick", dest="level", action="store_const", const="quick", help="small cases, fp32: seconds")
    level.add_argument("--full", dest="level", action="store_const", const="full", help="large cases too: minutes")
    parser.add_argument("--json", metavar="FILE", help="write passed, failed, skipped and all rows to FILE")
    return parser


def _targets(names: str | None, backend: str | None) -> tuple[str, ...]:
    if names is None:
        return DEFAULT_TARGETS
    if backend != "emulated":
        raise ValueError(f"target is {names!r}; it goes with --backend emulated alone.")
    return tuple(names.split(","))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; it takes cpu or cuda.") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; it takes cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}; this torch sees {torch.cuda.device_count()} GPUs.")
    return device


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _check_backend(
    specs: Sequence[OpSpec], backend: str | None, device: torch.device, targets: tuple[str, ...]
) -> None:
    """A backend asked for by name must be able to run: else nothing would be verified, silently.

    That an op has no kernels for one of the means is nothing this machine lacks: it is skipped with that reason.
    """
    if backend is None:
        return
    for engine in find_engines(backend, targets):
        if backend in MEANS and device.type != "cpu":
            raise ValueError(f"device is {str(device)!r}; --backend {backend} takes cpu.")
        reasons = [
            unavailable(spec, engine, device)
            for spec in specs
            if backend not in MEANS or not lacks_kernels(spec, engine)
        ]
        if reasons and all(reasons):
            raise ValueError(f"backend is {backend!r}, which cannot run on {device}: {reasons[0]}.")


def _check_file(name: str | None) -> None:
    if name is not None and (pathlib.Path(name).is_dir() or not pathlib.Path(name).resolve().parent.is_dir()):
        raise ValueError(f"json is {name!r}; it takes a file in a folder that exists.")


if __name__ == "__main__":
    sys.exit(main())
