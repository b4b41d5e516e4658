"""Builds the native extension; everything else about the package stands in pyproject.toml.

``LISA_BUILD``: ``auto`` (the CPU kernels if a C++ compiler and torch are found, else nothing, said in one line; the
CUDA kernels too if nvcc is found and torch is a CUDA build), ``none``, ``cpu`` or ``cuda`` (then a missing tool is an
error).  No GPU is needed, and torch may be a CPU build: the CUDA kernels include nothing of it.  ``LISA_CUDA_ARCHS``
(``80;90a;100a``): what nvcc compiles for; the last one without a letter also goes in as PTX.
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

# Sources of ops go by their names.  Kernels for the CPU are compiled once for each capability; csrc/core/capability.cpp
# asks the machine for exactly these flags.
OPS = ROOT / "csrc/ops"
HOT = sorted(OPS.glob("*/*_cpu.cpp"))
# Compiled by nvcc, and their bindings by the C++ compiler.
CUDA = sorted(OPS.glob("*/*.cu"))
CUDA_PLAIN = sorted(OPS.glob("*/*_bind_cuda.cpp"))
PLAIN = [
    ROOT / "csrc/module.cpp",
    ROOT / "csrc/core/capability.cpp",
    *sorted({*OPS.glob("*/*.cpp")} - {*HOT, *CUDA_PLAIN}),
]
# No fast maths: IEEE rounding is what the kernels are proved with.
CUDA_FLAGS = ["-O3", "-std=c++17", "-lineinfo", "-Xptxas=-v,--warn-on-spills", "-Xcompiler=-fPIC,-fvisibility=hidden"]
CAPABILITIES = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        "-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512",
    ],
}  # fmt: skip
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


def nvcc() -> pathlib.Path:
    """Return the CUDA compiler: the one in PATH, else that of the usual folder."""
    for candidate in (shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if candidate and pathlib.Path(candidate).is_file():
            return pathlib.Path(candidate)
    raise UnavailableError("nvcc is not in PATH nor in /usr/local/cuda/bin: install the CUDA toolkit, 12.8 or newer")


def wanted_nvcc(torch: pathlib.Path) -> pathlib.Path | None:
    """Return nvcc where CUDA kernels are asked for, or can be had and used; None: leave them out."""
    if SETTINGS.build == "cuda":
        return nvcc()
    has_cuda = re.search(r"^cuda.*=\s*'", (torch / "version.py").read_text(), re.MULTILINE)
    if SETTINGS.build != "auto" or not has_cuda:
        return None
    try:
        return nvcc()
    except UnavailableError as reason:
        print(f"lisa-kernels: the CUDA kernels are left out ({reason}).", flush=True)
        return None


def runtime_folders(cuda: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders that may hold the CUDA runtime; nvcc, perhaps a script far from them, says where it is."""
    said = subprocess.run([cuda, "--dryrun", "-x", "cu", "-E", "/dev/null"], capture_output=True, text=True).stderr
    top = re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE)
    root = pathlib.Path(top[1].strip()) if top else cuda.resolve().parent.parent
    return [folder.resolve() for name in ("lib64", "lib") if (folder := root / name).is_dir()]


def arch_flags() -> list[str]:
    """Machine code for each architecture, and PTX of the last plain one for GPUs that come later."""
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in SETTINGS.cuda_archs]
    plain = [arch for arch in SETTINGS.cuda_archs if arch.isdigit()]
    return [*flags, *(f"-gencode=arch=compute_{arch},code=compute_{arch}" for arch in plain[-1:])]


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
            torch = torch_folder()
            tools = compiler(), torch, wanted_nvcc(torch)
            check_build_packages()
        except UnavailableError as reason:
            if SETTINGS.build != "auto":
                raise SystemExit(f"lisa-kernels: LISA_BUILD={SETTINGS.build}, but {reason}.") from reason
            self.leave_out(str(reason))
            return
        self.build_native(*tools)

    def leave_out(self, reason: str) -> None:
        print(
            f"lisa-kernels: native kernels are left out ({reason}); ops run on the slow reference backend.", flush=True
        )
        self.extensions = []

    def build_native(self, command: list[str], torch: pathlib.Path, cuda: pathlib.Path | None) -> None:
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
        if cuda:
            flags.append(quoted(f'-DLISA_CUDA_ARCHS="{";".join(SETTINGS.cuda_archs)}"'))
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
            # The CUDA runtime is linked in: no library of the toolkit is needed where the package is used.
            runtime = ""
            if cuda:
                found = " ".join(f"-L{quoted(folder)}" for folder in runtime_folders(cuda))
                runtime = f" {found} -lcudart_static -lrt -ldl -lpthread"
                # -t 0: architectures side by side, on all cores.
                ninja.rule(
                    "nvcc",
                    f"{quoted(cuda)} -t 0 {' '.join(map(quoted, [*CUDA_FLAGS, *arch_flags()]))}"
                    " -MD -MF $out.d -c $in -o $out",
                    depfile="$out.d", deps="gcc", description="compile $out",
                )  # fmt: skip
            ninja.rule(
                "link",
                f"{shlex.join(command)} -shared -fopenmp $in -o $out -L{quoted(torch / 'lib')} -lc10 -ltorch_cpu"
                f"{runtime}",
                description="link $out",
            )
            objects = []
            for source in (*PLAIN, *(CUDA_PLAIN if cuda else ())):
                objects += ninja.build(f"{source.stem}.o", "compile", str(source))
            for source in HOT:
                # GCC 12 warns about its own AVX-512 header.
                for name, extra in CAPABILITIES.items() if X86 else [("baseline", [])]:
                    target = f"{source.stem}.{name}.o"
                    variables = {
                        "extra": [*extra, "-fno-exceptions", "-Wno-uninitialized", f"-DLISA_CAPABILITY={name}"]
                    }
                    objects += ninja.build(target, "compile", str(source), variables=variables)
            for source in CUDA if cuda else ():
                objects += ninja.build(f"{source.stem}.cu.o", "nvcc", str(source))
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
