"""Settings from the environment: the only file of the repository that reads ``os.environ``.

Standard library only: ``setup.py`` runs this file before the package can be imported.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re

BACKENDS = ("cuda", "triton", "cpu", "reference")
CAPABILITIES = ("baseline", "avx2", "avx512", "avx512bf16")
BUILDS = ("auto", "none", "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the ``LISA_*`` variables say; read once per process.

    Attributes:
        backend: ``LISA_BACKEND``: the one backend every op must use, or None for the first that does not refuse.
        cpu_capability: ``LISA_CPU_CAPABILITY``: the widest instruction set CPU kernels may use, or None for the
            machine's widest.
        build: ``LISA_BUILD``: what ``setup.py`` compiles.
        cuda_archs: ``LISA_CUDA_ARCHS``: what nvcc compiles for, separated by semicolons, each as in ``sm_<arch>``.
        compiler: ``CXX``: the C++ compiler to try first, with its arguments.
        interpret: ``TRITON_INTERPRET``: Triton's own switch for its interpreter.
    """

    backend: str | None = None
    cpu_capability: str | None = None
    build: str = "auto"
    cuda_archs: tuple[str, ...] = ("80", "90a", "100a")
    compiler: str | None = None
    interpret: bool = False


@functools.cache
def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ValueError: A variable holds a value that it does not take.
    """
    return Settings(
        backend=_choice("LISA_BACKEND", BACKENDS, None),
        cpu_capability=_choice("LISA_CPU_CAPABILITY", CAPABILITIES, None),
        build=_choice("LISA_BUILD", BUILDS, "auto"),
        cuda_archs=_archs(),
        compiler=os.environ.get("CXX") or None,
        interpret=os.environ.get("TRITON_INTERPRET", "0") == "1",
    )


def interpreter_environment() -> dict[str, str]:
    """Return this process's environment, changed so that a child process interprets Triton kernels."""
    return {**os.environ, "TRITON_INTERPRET": "1"}


def _archs() -> tuple[str, ...]:
    value = os.environ.get("LISA_CUDA_ARCHS")
    if not value:
        return Settings.cuda_archs
    archs = tuple(part.strip() for part in value.split(";") if part.strip())
    if not archs or not all(re.fullmatch(r"\d+[af]?", arch) for arch in archs):
        raise ValueError(
            f"LISA_CUDA_ARCHS is {value!r}; it takes numbers as in sm_<number>, separated by semicolons, such as "
            f"{';'.join(Settings.cuda_archs)}. Unset it for these."
        )
    return archs


def _choice(variable: str, allowed: tuple[str, ...], default: str | None) -> str | None:
    value = os.environ.get(variable) or default
    if value is not None and value not in allowed:
        raise ValueError(f"{variable} is {value!r}; it takes one of {', '.join(allowed)}. Unset it for the default.")
    return value
