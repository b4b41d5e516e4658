"""Builds the native extension; everything else about the package stands in pyproject.toml.

``LISA_BUILD``: ``auto`` (the CPU kernels if a C++ compiler and torch are found, else nothing, said in one line),
``none`` or ``cpu`` (then a missing compiler is an error).
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import platform
import re
import runpy
import shlex
import shutil
import subprocess
import sysconfig
import tempfile

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).resolve().parent
SETTINGS = runpy.run_path(str(ROOT / "lisa_kernels/core/config.py"))["read_settings"]()

# Kernel files, compiled once for each of these capabilities; csrc/core/capability.cpp asks the machine for exactly the
# flags of each.
HOT = {
    "csrc/ops/ctc/ctc_cpu.cpp": ("baseline", "avx2", "avx512"),
    "csrc/ops/attention/attention_cpu.cpp": ("baseline", "avx2", "avx512", "avx512bf16"),
}
PLAIN = (
    "csrc/module.cpp", "csrc/core/capability.cpp", "csrc/ops/ctc/ctc_bind.cpp",
    "csrc/ops/attention/attention_bind.cpp", "csrc/ops/attention/attention_schedule.cpp",
    "csrc/ops/attention/attention_tokens.cpp",
)  # fmt: skip
CAPABILITIES = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        "-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512",
    ],
}  # fmt: skip
CAPABILITIES["avx512bf16"] = [*CAPABILITIES["avx512"], "-mavx512bf16"]
X86 = platform.machine() in ("x86_64", "AMD64")
# Contraction to fused multiply-adds is asked for by name: compilers differ in their default.
FLAGS = [
    "-O3", "-std=c++20", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno",
    "-fno-trapping-math", "-Wall", "-Wno-psabi", "-DAT_PARALLEL_OPENMP=1",
]  # fmt: skip


class UnavailableError(Exception):
    """Why nothing can be compiled here."""


def torch_folder() -> pathlib.Path:
    """Return the folder of the installed torch, which a build isolated by pip does not see on its path."""
    if spec := importlib.util.find_spec("torch"):
        return pathlib.Path(spec.origin).parent
    for folder in (sysconfig.get_path("platlib"), sysconfig.get_path("purelib")):
        if (found := pathlib.Path(folder, "torch")).joinpath("version.py").exists():
            return found
    raise UnavailableError("torch is not installed: install torch first, then reinstall lisa-kernels")


def check_build_packages() -> None:
    if not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists():
        raise UnavailableError("Python.h not found: install your system's Python headers (Debian: python3-dev)")
    missing = [name for name in ("pybind11", "ninja") if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise UnavailableError(f"{names} not found: pip install {names}, or leave out --no-build-isolation")


def compiler() -> list[str]:
    """Return the command of a C++20 compiler with OpenMP."""
    wanted = SETTINGS.compiler or sysconfig.get_config_var("CXX") or ""
    for candidate in (shlex.split(wanted), ["g++"], ["clang++"], ["c++"]):
        if candidate and shutil.which(candidate[0]) and compiles(candidate):
            return candidate
    raise UnavailableError(
        "no C++20 compiler with OpenMP is in PATH: install g++ 10 or newer, then reinstall lisa-kernels"
    )


def compiles(command: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "probe.cpp")
        source.write_text("#include <omp.h>\nint main() { return omp_get_num_threads() - 1; }\n")
        args = [*command, "-std=c++20", "-fopenmp", str(source), "-o", str(source.with_suffix(""))]
        return subprocess.run(args, capture_output=True).returncode == 0


def quoted(argument: object) -> str:
    """Return an argument as the shell and ninja take it."""
    return shlex.quote(str(argument)).replace("$", "$$")


class BuildNative(build_ext):
    """Compiles with ninja: only what changed, on all cores."""

    def run(self) -> None:
        if SETTINGS.build == "none":
            self.leave_out("LISA_BUILD=none")
            return
        try:
            tools = compiler(), torch_folder()
            check_build_packages()
        except UnavailableError as reason:
            if SETTINGS.build == "cpu":
                raise SystemExit(f"lisa-kernels: LISA_BUILD=cpu, but {reason}.") from reason
            self.leave_out(str(reason))
            return
        self.build_native(*tools)

    def leave_out(self, reason: str) -> None:
        print(
            f"lisa-kernels: native kernels are left out ({reason}); ops run on the slow reference backend.", flush=True
        )
        self.extensions = []

    def build_native(self, command: list[str], torch: pathlib.Path) -> None:
        import pybind11
        from ninja import BIN_DIR, ninja_syntax

        version = re.search(r"__version__ = '([^']+)'", (torch / "version.py").read_text())[1]
        includes = [
            torch / "include",
            torch / "include/torch/csrc/api/include",
            pybind11.get_include(),
            sysconfig.get_path("include"),
        ]
        flags = [*FLAGS, *(["-DLISA_HAVE_X86"] if X86 else [])]
        flags += [f"-isystem {quoted(path)}" for path in includes]
        flags += [quoted(f'-DLISA_TORCH_VERSION="{version}"'), quoted(f'-DLISA_COMPILER="{shlex.join(command)}"')]
        # Beside the sources, not in pip's temporary folder: the next build compiles only what changed.
        build = ROOT / "build" / f"native-{sysconfig.get_config_var('SOABI')}"
        build.mkdir(parents=True, exist_ok=True)
        extension = build / "_C.so"
        with (build / "build.ninja").open("w") as file:
            ninja = ninja_syntax.Writer(file)
            ninja.rule(
                "compile",
                f"{shlex.join(command)} {' '.join(flags)} $extra -MMD -MF $out.d -c $in -o $out",
                depfile="$out.d", deps="gcc", description="compile $out",
            )  # fmt: skip
            ninja.rule(
                "link",
                f"{shlex.join(command)} -shared -fopenmp $in -o $out -L{quoted(torch / 'lib')} -lc10 -ltorch_cpu",
                description="link $out",
            )
            objects = []
            for source in PLAIN:
                objects += ninja.build(f"{pathlib.Path(source).stem}.o", "compile", str(ROOT / source))
            for source, names in HOT.items():
                # GCC 12 warns about its own AVX-512 header.
                for name in names if X86 else ("baseline",):
                    target = f"{pathlib.Path(source).stem}.{name}.o"
                    variables = {
                        "extra": [
                            *CAPABILITIES[name],
                            "-fno-exceptions",
                            "-Wno-uninitialized",
                            f"-DLISA_CAPABILITY={name}",
                        ]
                    }
                    objects += ninja.build(target, "compile", str(ROOT / source), variables=variables)
            ninja.build(str(extension), "link", objects)
        status = subprocess.run([os.path.join(BIN_DIR, "ninja"), "-C", str(build)]).returncode
        if status:
            raise SystemExit(
                "lisa-kernels: compiling the native kernels failed; LISA_BUILD=none installs without them."
            )
        target = pathlib.Path(self.get_ext_fullpath("lisa_kernels._C"))
        target.parent.mkdir(parents=True, exist_ok=True)
        # A new file, not a new content: a process that has the old library loaded keeps it.
        target.unlink(missing_ok=True)
        shutil.copy2(extension, target)


class BuildPython(build_py):
    """Adds the headers that run CUDA kernels on the CPU; in a checkout they are used where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = pathlib.Path(self.build_lib, "lisa_kernels/testing/cuda/headers")
        target.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / "csrc/testing").iterdir():
            if file.suffix in (".h", ".cpp"):
                shutil.copy2(file, target)


setup(
    ext_modules=[Extension("lisa_kernels._C", sources=[])],
    cmdclass={"build_ext": BuildNative, "build_py": BuildPython},
    # A wheel without native code is still tied to no platform only if nothing was compiled; setuptools decides by
    # ext_modules, so LISA_BUILD=none gives a platform wheel as well, which is harmless.
)
