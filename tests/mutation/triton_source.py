"""Mutants of the specimens' Triton source, in the interpreter under the sanitizer.  Needs TRITON_INTERPRET=1."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import pathlib
import tempfile
from typing import Any

from lisa_kernels.testing.interpreter import NotInterpretedError
from lisa_kernels.testing.mutation import triton_mutants
from lisa_kernels.testing.sanitizer import SanitizerError, sanitize
from tests.mutation.trial import Outputs, Subject, expected_of
from tests.specimens import triton_kernels
from tests.specimens.specimens import SPECIMENS

_numbers = itertools.count()


def subject(name: str) -> Subject:
    """Return one specimen as its author wrote it."""
    specimen = SPECIMENS[name]
    source = pathlib.Path(triton_kernels.__file__).read_text()
    function = specimen.kernel.__name__

    def run(text: str, problem: int, order: int | None) -> Outputs:
        changed = dataclasses.replace(specimen, kernel=getattr(_imported(text), function))
        args = specimen.make_args(0, problem)
        with sanitize(program_order=order):
            changed.launch(args)
        named = specimen.named(args)
        return {output: named[output] for output in specimen.outputs}

    return Subject(
        name,
        "Triton source",
        triton_mutants(source, function),
        source,
        run,
        expected_of(specimen),
        specimen.depth,
        orders=(1, 2),
        faults=(SanitizerError, NotInterpretedError),
    )


def _imported(text: str) -> Any:
    """Return the module of a text: Triton reads a kernel's source from its file."""
    name = f"mutant_{next(_numbers)}"
    path = pathlib.Path(tempfile.mkdtemp(), f"{name}.py")
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
