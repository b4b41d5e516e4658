"""All subjects of the suite, and their mutants tried two at a time."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
from collections.abc import Iterator

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
