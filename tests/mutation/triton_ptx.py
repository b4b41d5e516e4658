"""Mutants of the PTX that Triton makes of the specimens, in the emulator."""

from __future__ import annotations

from lisa_kernels.core.launch import record
from lisa_kernels.testing.compiled import compile_launch
from lisa_kernels.testing.mutation import ptx_mutants
from lisa_kernels.testing.ptx import Module, PtxError
from tests.mutation.trial import Outputs, Subject
from tests.specimens.specimens import SPECIMENS

TARGETS = ("sm_80", "sm_90")


def subject(name: str, target: str) -> Subject:
    """Return one specimen compiled for one target."""
    specimen = SPECIMENS[name]
    args = specimen.make_args(0)
    with record() as launches:
        specimen.launch(args)
    compiled = compile_launch(launches[0], target)
    text = compiled.asm["ptx"]

    def run(text: str, order: int | None) -> Outputs:
        fresh = specimen.make_args(0)
        module = Module(text)
        passed = launches[0].passed(fresh)
        # Triton's own scratch memory, which these kernels do not use.
        scratch = (None,) * (text.count("_param_", 0, text.index(")")) - len(passed))
        module.launch(
            module.kernels[0],
            launches[0].grid,
            (compiled.metadata.num_warps * 32,),
            (*passed, *scratch),
            shared_bytes=compiled.metadata.shared,
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
        specimen.expected(args),
        specimen.depth,
        orders=(1, 2),
        faults=(PtxError,),
    )
