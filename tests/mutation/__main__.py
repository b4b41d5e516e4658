"""``python -m tests.mutation [--out FILE] [--only PART] [--kernel NAME]``: try all mutants, print the report.

Exits with 1 where fewer than 95 % of the barrier, wait and mask mutants that change something were caught.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.mutation.report import is_enough, report
from tests.mutation.trial import Outcome, Subject, check_right_kernel, judge

TRITON_KERNELS = ("matmul", "softmax", "attention", "scan")
CUDA_KERNELS = ("matmul", "softmax", "scan", "row_sum", "flip")
# (part, what it takes): one process interprets Triton or compiles it.
SUBJECTS = {
    "source": [("source", kernel, "") for kernel in TRITON_KERNELS],
    "ptx": [("ptx", kernel, target) for kernel in TRITON_KERNELS for target in ("sm_80", "sm_90")],
    "cuda": [("cuda", kernel, "sm_80") for kernel in CUDA_KERNELS],
    "host": [("host", kernel, "") for kernel in CUDA_KERNELS],
}


@functools.cache
def subject_of(part: str, kernel: str, target: str) -> Subject:
    """Return a subject, made once in each process."""
    if part == "source":
        from tests.mutation.triton_source import subject

        return subject(kernel)
    if part == "ptx":
        from tests.mutation.triton_ptx import subject

        return subject(kernel, target)
    from tests.mutation import cuda_source

    return cuda_source.host_subject(kernel) if part == "host" else cuda_source.ptx_subject(kernel, target)


def try_mutant(place: tuple[str, str, str], number: int) -> Outcome:
    """Judge one mutant."""
    subject = subject_of(*place)
    return judge(subject, subject.mutants[number])


def try_part(part: str, kernel: str | None) -> Iterator[Outcome]:
    """Yield the outcomes of one part, two mutants at a time."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for place in SUBJECTS[part]:
            if kernel in (None, place[1]):
                subject = subject_of(*place)
                check_right_kernel(subject)
                yield from pool.map(try_mutant, [place] * len(subject.mutants), range(len(subject.mutants)))


def main() -> int:
    """Run all parts, each in a process of its own, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--only", choices=SUBJECTS, help="one part")
    parser.add_argument("--kernel", help="one kernel")
    parser.add_argument("--rows", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows:
        rows = [dataclasses.asdict(row) for row in try_part(arguments.only, arguments.kernel)]
        arguments.rows.write_text(json.dumps(rows))
        return 0
    outcomes = []
    for part in [arguments.only] if arguments.only else SUBJECTS:
        outcomes += _in_a_process(part, arguments.kernel)
    text = "\n".join(report(outcomes)) + "\n"
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)
    return 0 if is_enough(outcomes) else 1


def _in_a_process(part: str, kernel: str | None) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder) / "rows.json"
        command = ["env", f"TRITON_INTERPRET={int(part == 'source')}", sys.executable, "-m", "tests.mutation"]
        command += ["--only", part, "--rows", str(rows)] + (["--kernel", kernel] if kernel else [])
        subprocess.run(command, check=True)
        return [Outcome(**row) for row in json.loads(rows.read_text())]


if __name__ == "__main__":
    sys.exit(main())
