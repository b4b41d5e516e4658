"""A compile job: one launch of one op for one target, with a name that stays the same from run to run."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from lisa_kernels.core.launch import LaunchRecord


@dataclasses.dataclass(frozen=True)
class Job:
    """One launch to compile.

    Attributes:
        op: The function it belongs to.
        target: A key of ``core.targets.TARGETS``.
        record: The launch.
        cases: Names of the cases that reach it.
        real_size: Whether a case of ``OpSpec.bench`` does; small test cases have odd strides on purpose.
    """

    op: str
    target: str
    record: LaunchRecord
    cases: tuple[str, ...] = ()
    real_size: bool = True

    @property
    def name(self) -> str:
        """Kernel, dtypes, constexprs, launch options, and a digest of all that specialises the code."""
        record = self.record
        types = "/".join(kind.lstrip("*") for kind in record.signature.values() if kind.startswith("*"))
        constants = (f"{name}={value}" for name, value in record.constexprs.items() if name.isupper())
        warps, stages = record.options.get("num_warps"), record.options.get("num_stages")
        parts = [record.kernel.__name__, types, *constants, f"warps={warps}", f"stages={stages}", self.digest[:6]]
        return " ".join(parts)

    @property
    def digest(self) -> str:
        """Digest of signature, constexprs, attributes and options: two jobs that agree compile to the same code."""
        record = self.record
        told = (record.signature, sorted(record.constexprs.items()), sorted(record.attrs.items()), record.options)
        return hashlib.sha256(repr(told).encode()).hexdigest()


def merge(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs without repetitions; the cases of equal ones are put together."""
    merged: dict[tuple[str, str, str, str], Job] = {}
    for job in jobs:
        kernel = job.record.kernel
        key = (job.op, job.target, f"{kernel.__module__}.{kernel.__name__}", job.digest)
        if (known := merged.get(key)) is None:
            merged[key] = job
            continue
        cases = tuple(dict.fromkeys(known.cases + job.cases))
        merged[key] = dataclasses.replace(known, cases=cases, real_size=known.real_size or job.real_size)
    return list(merged.values())
