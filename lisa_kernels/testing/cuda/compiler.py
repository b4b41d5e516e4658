"""nvcc's PTX, machine code and resource figures of a ``.cu`` file.  No GPU is needed."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence

from lisa_kernels.testing.cuda.cache import as_file, cached_folder, source_texts
from lisa_kernels.testing.cuda.toolchain import find_nvcc, version_of, why_no_nvcc

# No fast maths: -O3 of nvcc keeps IEEE rounding and contracts to fused multiply-adds, as the product's build does.
FLAGS = ("-O3", "-std=c++17", "-lineinfo")
_USAGE_FLAGS = ("-Xptxas", "-v,--warn-on-spills")


@dataclasses.dataclass(frozen=True)
class Cubin:
    """Machine code of all kernels of a file for one architecture.

    Attributes:
        code: The cubin, an ELF file.
        usage: What ``ptxas -v`` says of each kernel: registers, shared memory, spills.
    """

    code: bytes
    usage: str


def compile_ptx(
    source: str | pathlib.Path,
    arch: str = "sm_80",
    *,
    include_dirs: Sequence[str | pathlib.Path] = (),
    options: Sequence[str] = (),
    cache: pathlib.Path | None = None,
) -> str:
    """Return the PTX of a ``.cu`` file, with ``.loc`` lines.

    Args:
        source: The path of the file, or its text (anything with a line break).
        arch: ``sm_80``, ``sm_90a`` and so on.
        include_dirs: Folders of its includes.
        options: Further options of nvcc, such as ``-DNAME=1``.
        cache: Where results are kept; None: ``~/.cache/lisa_kernels/cuda``.

    Raises:
        RuntimeError: nvcc is missing, or does not take the file.
    """
    virtual = arch.replace("sm_", "compute_")
    folder = _compile(source, ("-ptx", f"-arch={virtual}"), "kernel.ptx", include_dirs, options, cache)
    return (folder / "kernel.ptx").read_text()


def compile_cubin(
    source: str | pathlib.Path,
    arch: str = "sm_80",
    *,
    include_dirs: Sequence[str | pathlib.Path] = (),
    options: Sequence[str] = (),
    cache: pathlib.Path | None = None,
) -> Cubin:
    """Return the machine code of a ``.cu`` file and what it uses; arguments as those of ``compile_ptx``.

    Raises:
        RuntimeError: nvcc is missing, or does not take the file.
    """
    folder = _compile(source, ("-cubin", f"-arch={arch}", *_USAGE_FLAGS), "kernel.cubin", include_dirs, options, cache)
    return Cubin((folder / "kernel.cubin").read_bytes(), (folder / "usage.txt").read_text())


def _compile(
    source: str | pathlib.Path,
    kind: tuple[str, ...],
    output: str,
    include_dirs: Sequence[str | pathlib.Path],
    options: Sequence[str],
    cache: pathlib.Path | None,
) -> pathlib.Path:
    nvcc = find_nvcc()
    if nvcc is None:
        raise RuntimeError(f"compile_{kind[0].lstrip('-')}: {why_no_nvcc()}.")
    folders = [pathlib.Path(folder).resolve() for folder in include_dirs]
    with tempfile.TemporaryDirectory() as temporary:
        path = as_file(source, pathlib.Path(temporary))
        flags = [*FLAGS, *kind, *(f"-I{folder}" for folder in folders), *options]

        def make(folder: pathlib.Path) -> None:
            command = [nvcc, *flags, path, "-o", folder / output]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"compile_{kind[0].lstrip('-')}: nvcc does not take {path.name}.\n{done.stderr}")
            (folder / "usage.txt").write_text(done.stderr)

        # The path stands in the line table; a text has none.
        origin = str(path) if path.parent != pathlib.Path(temporary) else ""
        parts = [version_of(str(nvcc)), *flags, origin, *source_texts(path, folders)]
        return cached_folder(parts, cache, make)
