"""Check every op's numerics on this machine: ``python -m lisa_kernels.verify [OP ...]``.

Values, gradients, edges, determinism, memory and bad input of every backend that can run, against the definition in
fp64.  Needs torch alone.  Exits with 0 when all passed, 1 after a failure, 2 for arguments it does not take.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence

import torch

from lisa_kernels.core.config import BACKENDS, read_settings
from lisa_kernels.core.registry import select
from lisa_kernels.core.spec import OpSpec
from lisa_kernels.testing.plan import unavailable, verify_op
from lisa_kernels.testing.rows import FAILED, PASSED, SKIPPED, Row
from lisa_kernels.testing.table import details, summary, table


def main(argv: Sequence[str] | None = None) -> int:
    """Verify, print the table and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        specs = select(arguments.op)
        device = _device(arguments.device)
        # LISA_BACKEND forces here as it does everywhere.
        backend = arguments.backend or read_settings().backend
        _check_backend(specs, backend, device)
        _check_file(arguments.json)
    except ValueError as error:
        print(f"verify: {str(error).removeprefix('select: ')}", file=sys.stderr)
        return 2
    print(f"torch {torch.__version__}, device {_device_name(device)}, {torch.get_num_threads()} CPU threads")

    rows: list[Row] = []
    for line in table(_judge(specs, device, backend, arguments.level, rows)):
        print(line, flush=True)
    for line in details(rows):
        print(line)
    counts = summary(rows)
    if arguments.json:
        record = {**counts, "rows": [row.to_json() for row in rows]}
        pathlib.Path(arguments.json).write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{counts[PASSED]} passed, {counts[FAILED]} failed, {counts[SKIPPED]} skipped")
    return 1 if counts[FAILED] else 0


def _judge(
    specs: Sequence[OpSpec], device: torch.device, backend: str | None, level: str, kept: list[Row]
) -> Iterator[Row]:
    """Yield every row, and keep it."""
    for spec in specs:
        for row in verify_op(spec, device=device, backend=backend, level=level):
            kept.append(row)
            yield row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lisa_kernels.verify", description="Check the ops' numerics here.")
    parser.add_argument("op", nargs="*", metavar="OP", help="op or op folder (default: all)")
    parser.add_argument("--backend", help="one of " + ", ".join(BACKENDS) + " (default: every one that can run)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    level = parser.add_mutually_exclusive_group()
    level.set_defaults(level="default")
    level.add_argument("--quick", dest="level", action="store_const", const="quick", help="small cases, fp32: seconds")
    level.add_argument("--full", dest="level", action="store_const", const="full", help="large cases too: minutes")
    parser.add_argument("--json", metavar="FILE", help="write passed, failed, skipped and all rows to FILE")
    return parser


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


def _check_backend(specs: Sequence[OpSpec], backend: str | None, device: torch.device) -> None:
    """A backend asked for by name must be able to run: else nothing would be verified, silently."""
    if backend is None:
        return
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; it takes {', '.join(BACKENDS)}.")
    reasons = [unavailable(spec, backend, device) for spec in specs]
    if all(reasons):
        raise ValueError(f"backend is {backend!r}, which cannot run on {device}: {reasons[0]}.")


def _check_file(name: str | None) -> None:
    if name is not None and (pathlib.Path(name).is_dir() or not pathlib.Path(name).resolve().parent.is_dir()):
        raise ValueError(f"json is {name!r}; it takes a file in a folder that exists.")


if __name__ == "__main__":
    sys.exit(main())
