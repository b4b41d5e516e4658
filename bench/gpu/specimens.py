"""``python -m bench.gpu.specimens NAME ...``: known Triton kernels on the GPU and in the PTX emulator, both judged.

The expectation in fp64 judges either.  Beside that stands the distance between the two in units of the last place: the
emulator runs the code that the same compiler made for this very target.  Last bits may differ, since the emulator sums
inside one MMA instruction in fp64.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.rows import replace_text
from lisa_kernels.core.launch import LaunchRecord, run_through
from lisa_kernels.testing import compare

_SEED = 0
# JSON has no infinity.
_LARGEST = 1e300
Emulate = Callable[[str, str], dict[str, Tensor]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named specimens, print and write a row for each output, and return 0; rows say what failed."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda")
    rows = [row for name in options.name for row in judge_specimen(name, device, arch=_arch(device))]
    for row in rows:
        print(" ".join(f"{key}={value}" for key, value in row.items()))
    if options.json:
        replace_text(options.json, json.dumps(rows, indent=1) + "\n")
    return 0


def run_specimen(
    name: str, device: torch.device, *, seed: int = _SEED
) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return the outputs of one specimen on a device, what they should be in fp64, and the roundings behind them."""
    from tests.specimens.specimens import SPECIMENS

    specimen = SPECIMENS[name]
    args = specimen.make_args(seed)
    expected = specimen.expected(args)
    moved = tuple(_move(arg, device) if isinstance(arg, Tensor) else arg for arg in args)
    specimen.launch(moved)
    named = specimen.named(moved)
    return {output: named[output].cpu() for output in specimen.outputs}, expected, specimen.depth


def judge_specimen(
    name: str, device: torch.device, *, arch: str, emulate: Emulate | None = None
) -> list[dict[str, Any]]:
    """Return a row for each output: ``status`` of both against fp64, and their distance in ulps.

    Args:
        arch: The device's target, ``"sm_90"``.
        emulate: ``(name, arch) -> outputs`` in place of ``emulate_specimen``.
    """
    outputs, expected, depth = run_specimen(name, device)
    try:
        emulated, why_not = (emulate or emulate_specimen)(name, arch), ""
    except Exception as error:
        # A target or an instruction that is not modelled; the text says which.
        emulated, why_not = None, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    rows = []
    for output, got in outputs.items():
        found = compare(got, expected[output], depth=depth, name=f"{name}.{output}")
        row = {"specimen": name, "output": output, "error": min(found.error, _LARGEST), "bound": found.bound}
        if emulated is None:
            row |= {"emulator": "not compared", "emulator_reason": why_not}
        else:
            theirs = compare(emulated[output], expected[output], depth=depth, name=f"emulated {name}.{output}")
            distance = ulps(got, emulated[output])
            row |= {"emulator": "compared", "emulator_error": min(theirs.error, _LARGEST)}
            row |= {"max_ulp": int(distance.max()), "equal": float((distance == 0).float().mean())}
            found = theirs if found.passed else found
        row |= {"status": "passed" if found.passed else "failed", "message": found.message}
        rows.append(row)
    return rows


def emulate_specimen(name: str, arch: str) -> dict[str, Tensor]:
    """Return the outputs of one specimen, compiled for a target and run by the PTX emulator on the CPU."""
    from lisa_kernels.testing.compiled import compile_launch
    from lisa_kernels.testing.ptx import run_compiled

    def execute(record: LaunchRecord, args: tuple[Any, ...]) -> None:
        run_compiled(compile_launch(record, arch), record.grid, record.passed(args))

    with run_through(execute):
        return run_specimen(name, torch.device("cpu"))[0]


def ulps(a: Tensor, b: Tensor) -> Tensor:
    """Return how many representable numbers lie between two tensors of one dtype, elementwise.

    Two NaN are 0 apart, and NaN is as far from a number as the largest integer.

    Raises:
        ValueError: Shapes or dtypes differ.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"ulps: a is {tuple(a.shape)} {a.dtype} and b {tuple(b.shape)} {b.dtype}; they must be alike.")
    distance = (_ordinal(a) - _ordinal(b)).abs()
    distance[a.isnan() & b.isnan()] = 0
    distance[a.isnan() ^ b.isnan()] = torch.iinfo(torch.int64).max
    return distance


def _ordinal(tensor: Tensor) -> Tensor:
    """Integers in the order of the floats: those of negative floats run backwards in memory."""
    bits = {2: torch.int16, 4: torch.int32}[tensor.dtype.itemsize]
    raw = tensor.contiguous().view(bits).long()
    return torch.where(raw < 0, torch.iinfo(bits).min - raw, raw)


def _move(arg: Tensor, device: torch.device) -> Tensor:
    """Copy with the strides and the padding, which ``to`` would drop."""
    storage = torch.empty(0, dtype=arg.dtype).set_(arg.untyped_storage())
    return storage.to(device, copy=True).as_strided(arg.shape, arg.stride(), arg.storage_offset())


def _arch(device: torch.device) -> str:
    if torch.version.hip:
        return torch.cuda.get_device_properties(device).gcnArchName.split(":")[0]
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.specimens", description=__doc__)
    parser.add_argument("name", nargs="+", metavar="NAME")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
