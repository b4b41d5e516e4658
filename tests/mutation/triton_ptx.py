"""Mutants of the PTX that Triton makes of the specimens, in the emulator."""

from __future__ import annotations

from lisa_kernels.core.launch import record
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.mutation import ptx_mutants
from lisa_kernels.testing.ptx import PtxError, run_compiled
from tests.mutation.redundant import why_redundant
from tests.mutation.trial import Outputs, Subject, expected_of
from tests.specimens.specimens import SPECIMENS

TARGETS = ("sm_80", "sm_90")


def subject(name: str, target: str) -> Subject:
    """Return one specimen compiled for one target."""
    specimen = SPECIMENS[name]
    with record() as launches:
        specimen.launch(specimen.make_args(0))
    compiled = compile_launch(launches[0], target)
    text = compiled.asm["ptx"]

    def run(text: str, problem: int, order: int | None) -> Outputs:
        fresh = specimen.make_args(0, problem)
        run_compiled(
            compiled,
            specimen.grid(fresh, specimen.tile),
            launches[0].passed(fresh),
            ptx=text,
            schedule="lockstep" if order is None else order,
        )
        named = specimen.named(fresh)
        return {output: named[output] for output in specimen.outputs}

    return Subject(
        name,
        f"PTX {target} of Triton",
        ptx_mutants(text),
        text,
        run,
        expected_of(specimen),
        specimen.depth,
        orders=(1, 2),
        faults=(PtxError,),
        why_harmless=lambda mutant: why_redundant(text, mutant),
    )
