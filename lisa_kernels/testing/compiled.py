"""Compiles a recorded Triton launch for a GPU that need not be here."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lisa_kernels.core.config import read_settings
from lisa_kernels.core.launch import LaunchRecord
from lisa_kernels.core.targets import TARGETS, Target

# Compute capabilities that no tile table has rows for, but that Triton compiles for and people own.
_FURTHER = {"sm_86": 86, "sm_89": 89}


def compile_launch(record: LaunchRecord, target: Target | str) -> Any:
    """Return Triton's compiled kernel of one launch, with ``asm["ptx"]`` and ``asm["cubin"]`` or ``asm["amdgcn"]``.

    Args:
        record: Of ``core.launch.record`` or ``specialise``.
        target: A key of ``core.targets.TARGETS``, ``"sm_86"`` or ``"sm_89"``.

    Raises:
        ValueError: An unknown target, or the interpreter, for which nothing is compiled.
        RuntimeError: This process interprets Triton kernels; the compiler needs one that does not.
    """
    if read_settings().interpret:
        raise RuntimeError(
            "compile_launch: TRITON_INTERPRET=1 makes this process an interpreter; compile in one without it."
        )
    source = ASTSource(fn=record.kernel, signature=record.signature, constexprs=record.constexprs, attrs=record.attrs)
    return triton.compile(source, target=_gpu_target(target), options=record.options)


def _gpu_target(target: Target | str) -> GPUTarget:
    name = target if isinstance(target, str) else target.name
    if name in _FURTHER:
        return GPUTarget("cuda", _FURTHER[name], 32)
    found = TARGETS.get(name)
    if found is None or found.backend is None:
        known = ", ".join([*(t.name for t in TARGETS.values() if t.backend), *_FURTHER])
        raise ValueError(f"compile_launch: target is {name!r}; it takes {known}.")
    return GPUTarget(found.backend, found.arch, found.warp_size)
