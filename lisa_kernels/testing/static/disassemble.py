"""Text of a cubin through NVIDIA's ``nvdisasm`` and ``cuobjdump``, of the Triton wheel or of the CUDA toolkit."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import pathlib
import re
import shutil
import subprocess
import tempfile

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclasses.dataclass(frozen=True)
class ResourceUsage:
    """What the loader reserves for one kernel, as ``cuobjdump -res-usage`` prints it.

    Attributes:
        registers: Registers of one thread.
        stack_bytes: Stack of one thread, spills included.
        shared_bytes: Static shared memory of one block, with the 1 KiB that sm_90 and later keep for themselves.
        local_bytes: Local memory of one thread beyond the stack.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int
    local_bytes: int


@functools.cache
def find_tool(name: str) -> str:
    """Return the path of ``nvdisasm`` or ``cuobjdump``: that of the Triton wheel, else the one on PATH.

    Raises:
        RuntimeError: Neither has it.
    """
    spec = importlib.util.find_spec("triton")
    if spec is not None and spec.origin:
        bundled = pathlib.Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
        if bundled.is_file():
            return str(bundled)
    if found := shutil.which(name):
        return found
    raise RuntimeError(
        f"find_tool: {name} is neither in the triton wheel nor on PATH; static figures of NVIDIA code need it. "
        f"pip install 'triton>=3.6,<3.10', or add the CUDA toolkit's bin folder to PATH."
    )


def disassemble(cubin: bytes) -> str:
    """Return the SASS of every kernel of a cubin, with the raw 128-bit encodings that hold the control codes.

    Raises:
        RuntimeError: No ``nvdisasm``, or it refuses the file.
    """
    return _run_on(cubin, "nvdisasm", "-c", "-hex")


def resource_usage(cubin: bytes) -> dict[str, ResourceUsage]:
    """Return the resources of every kernel of a cubin, by its (mangled) name.

    Raises:
        RuntimeError: No ``cuobjdump``, or it refuses the file.
    """
    return parse_resource_usage(_run_on(cubin, "cuobjdump", "-res-usage"))


def launch_bounds(cubin: bytes) -> dict[str, int]:
    """Return the threads of one block, by kernel, of kernels with ``__launch_bounds__`` or a required size.

    Raises:
        RuntimeError: No ``cuobjdump``, or it refuses the file.
    """
    bounds, function, attribute = {}, None, ""
    for line in _run_on(cubin, "cuobjdump", "-elf").splitlines():
        if match := re.match(r"\.nv\.info\.(\S+)\s*$", line):
            function = match[1]
        elif match := re.match(r"\s*Attribute:\s*(\w+)", line):
            attribute = match[1]
        elif function and attribute in ("EIATTR_MAX_THREADS", "EIATTR_REQNTID") and "Value:" in line:
            bounds[function] = math.prod(int(size, 16) for size in re.findall(r"0x([0-9a-f]+)", line))
    return bounds


def parse_resource_usage(text: str) -> dict[str, ResourceUsage]:
    """Return the resources by kernel name from the text of ``cuobjdump -res-usage``."""
    usage, function = {}, None
    for line in text.splitlines():
        if match := re.search(r"Function ([^:]+):", line):
            function = match[1]
        if function and (match := _USAGE.search(line)):
            usage[function] = ResourceUsage(*map(int, match.groups()))
    return usage


def _run_on(cubin: bytes, tool: str, *options: str) -> str:
    path = find_tool(tool)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([path, *options, file.name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool}: exit code {done.returncode}. {done.stderr.strip()[:500]}")
    return done.stdout
