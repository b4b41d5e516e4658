"""``python -m bench.gpu.specimens NAME ...``: known Triton kernels on the GPU, judged, and beside them the emulator.

The expectation in fp64 judges the GPU.  Outputs that the PTX emulator gave for the same inputs and the same target,
kept in ``tests/specimens/emulated/``, are set beside the GPU's: that judges the emulator.  Last bits may differ, since
the emulator sums inside one MMA instruction in fp64.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.gpu.tools import ROOT
from bench.rows import replace_text
from lisa_kernels.core.launch import LaunchRecord, run_through
from lisa_kernels.testing import compare

EMULATED = ROOT / "tests" / "specimens" / "emulated"
_SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named specimens, print and write a row for each output, and return 0; rows say what failed."""
    options = _parser().parse_args(arguments)
    if options.emulate:
        for name in options.name:
            print(write_emulated(name, options.emulate, emulate_specimen(name, options.emulate)))
        return 0
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
    name: str, device: torch.device, *, arch: str, folder: pathlib.Path = EMULATED
) -> list[dict[str, Any]]:
    """Return a row for each output: ``status`` against fp64, and the distance from the stored emulation in ulps."""
    outputs, expected, depth = run_specimen(name, device)
    emulated, why_not = read_emulated(name, arch, folder)
    rows = []
    for output, got in outputs.items():
        found = compare(got, expected[output], depth=depth, name=f"{name}.{output}")
        row = {"specimen": name, "output": output, "status": "passed" if found.passed else "failed"}
        row |= {"error": min(found.error, 1e300), "bound": found.bound, "message": found.message}
        if emulated is None:
            row |= {"emulator": "not compared", "emulator_reason": why_not}
        else:
            distance = ulps(got, emulated[output])
            row |= {
                "emulator": "compared",
                "max_ulp": int(distance.max()),
                "equal": float((distance == 0).float().mean()),
            }
        rows.append(row)
    return rows


def emulate_specimen(name: str, target: str) -> dict[str, Tensor]:
    """Return the outputs of one specimen, compiled for ``target`` and run by the PTX emulator; needs no GPU."""
    from lisa_kernels.testing.compiled import compile_launch
    from lisa_kernels.testing.ptx import run_compiled

    def execute(record: LaunchRecord, args: tuple[Any, ...]) -> None:
        run_compiled(compile_launch(record, target), record.grid, record.passed(args))

    with run_through(execute):
        return run_specimen(name, torch.device("cpu"))[0]


def read_emulated(name: str, arch: str, folder: pathlib.Path = EMULATED) -> tuple[dict[str, Tensor] | None, str]:
    """Return the stored outputs of a specimen for a target, or None and why there are none."""
    path = folder / f"{name}-{arch}.pt"
    if not path.exists():
        return None, f"no emulated output for {arch} is stored ({path.name})"
    return torch.load(path, weights_only=True), ""


def write_emulated(name: str, arch: str, outputs: dict[str, Tensor], folder: pathlib.Path = EMULATED) -> pathlib.Path:
    """Store what the emulator gave for a specimen's inputs of seed 0, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{arch}.pt"
    torch.save({output: tensor.contiguous().cpu() for output, tensor in outputs.items()}, path)
    return path


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
    parser.add_argument("--emulate", metavar="TARGET", help="store what the PTX emulator gives for it (sm_80, sm_90)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
