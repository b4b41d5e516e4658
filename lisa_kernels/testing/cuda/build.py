"""From a ``.cu`` file to a library of this machine's CPU, or to a program with sanitizers."""

from __future__ import annotations

import pathlib
import re
import subprocess
import tempfile
from collections.abc import Sequence

from lisa_kernels.testing.cuda.cache import as_file, cached_folder, source_texts
from lisa_kernels.testing.cuda.toolchain import (
    find_compiler,
    find_cuda_headers,
    shim_folder,
    version_of,
    why_no_host,
)
from lisa_kernels.testing.cuda.translate import translate_tree

# Device code casts pointers freely and nvcc lets it; fused multiply-adds only where the source says so.
_FLAGS = ("-std=c++20", "-fno-strict-aliasing", "-ffp-contract=off", "-pthread", "-w")
# Without unique symbols two libraries would share the headers' variables.
_LIBRARY = ("-O2", "-fPIC", "-fno-gnu-unique", "-fno-semantic-interposition")
_LINK_LIBRARY = ("-shared", "-Wl,-Bsymbolic", "-Wl,--no-undefined")
SANITIZERS = ("-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Names the functions of dladdr, and keeps what looks unused.
_LINK_PROGRAM = ("-rdynamic",)
_LIBRARY_SOURCES = ("host_runtime.cpp",)
_PROGRAM_SOURCES = ("host_runtime.cpp", "driver.cpp")
_SHOWN_ERRORS = 50
# #error, static_assert, and #pragma GCC error as csrc/testing/refused.h has it.
_CAUSE = re.compile(r"error: (?:#error|static assertion failed|.* not modelled on the host)")


def build(
    source: str | pathlib.Path,
    *,
    sanitize: bool,
    include_dirs: Sequence[pathlib.Path],
    instantiate: Sequence[str],
    callers: Sequence[pathlib.Path],
    options: Sequence[str],
    cache: pathlib.Path | None,
) -> pathlib.Path:
    """Return the compiled library, or with ``sanitize`` the program; see ``HostModule.build``.

    Raises:
        RuntimeError: A tool is missing, or g++ does not take a file.
    """
    if reason := why_no_host():
        raise RuntimeError(f"HostModule.build: {reason}.")
    compiler, headers = find_compiler(), find_cuda_headers()
    with tempfile.TemporaryDirectory() as temporary:
        path = as_file(source, pathlib.Path(temporary))
        # A text has no path that messages, and the cache, could know it by.
        texts = translate_tree(path, include_dirs, "source.cu" if path.parent == pathlib.Path(temporary) else None)
        name = next(iter(texts))
        texts[name] += "".join(f"\nLISA_HOST_EXPORT({kernel})" for kernel in instantiate) + "\n"
    includes = [f"-I{folder}" for folder in (*include_dirs, shim_folder(), headers)]
    common = [*_FLAGS, *(SANITIZERS if sanitize else _LIBRARY)]
    runtime = _runtime(compiler, [*common, f"-I{headers}"], sanitize=sanitize, cache=cache)
    flags = [*common, *options, *includes]
    output = "program" if sanitize else "kernels.so"

    def make(folder: pathlib.Path) -> None:
        for file, text in texts.items():
            (folder / file).write_text(text)
        force = ["-include", str(shim_folder() / "cuda_on_host.h"), "-x", "c++"]
        objects = [str(file) for file in sorted(runtime.glob("*.o"))]
        for position, (file, extra) in enumerate([(folder / name, force), *((caller, []) for caller in callers)]):
            target = folder / f"{position}.o"
            _run([compiler, *flags, *extra, "-c", str(file), "-o", str(target)], path.name)
            objects.append(str(target))
        link = _LINK_PROGRAM if sanitize else _LINK_LIBRARY
        _run([compiler, *flags, *link, *objects, "-o", str(folder / output)], path.name)

    parts = [version_of(compiler), str(headers), *flags, *texts.values(), *_shim_texts()]
    parts += [text for caller in callers for text in source_texts(caller, include_dirs)]
    return cached_folder(parts, cache, make) / output


def _runtime(compiler: str, flags: list[str], *, sanitize: bool, cache: pathlib.Path | None) -> pathlib.Path:
    """Return a folder with the objects that every library needs, compiled once for each set of flags."""

    def make(folder: pathlib.Path) -> None:
        for name in _PROGRAM_SOURCES if sanitize else _LIBRARY_SOURCES:
            source = shim_folder() / name
            _run([compiler, *flags, "-c", str(source), "-o", str(folder / f"{source.stem}.o")], name)

    return cached_folder([version_of(compiler), *flags, *_shim_texts()], cache, make)


def _shim_texts() -> list[str]:
    return [file.read_text() for file in sorted(shim_folder().glob("*.*")) if file.suffix in (".h", ".cpp")]


def _run(command: list[str], source: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if "error" in line or "undefined reference" in line]
    # What follows a refused header or type is noise: names that the compiler does not know without it.
    lines = [line for line in lines if _CAUSE.search(line)] or lines
    shown = "\n".join(lines[:_SHOWN_ERRORS]) or done.stderr
    raise RuntimeError(f"HostModule.build: g++ does not take {source}.\n{shown}")
