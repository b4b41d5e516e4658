"""A Triton launch to figures: for kernels of this package and of anybody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lisa_kernels.core.launch import LaunchRecord, specialise
from lisa_kernels.core.targets import Target
from lisa_kernels.testing.static import compiler_text
from lisa_kernels.testing.static.amdgcn import read_amdgcn
from lisa_kernels.testing.static.figures import KernelFigures
from lisa_kernels.testing.static.nvidia import Known, read_cubin


def analyze_kernel(
    kernel: Any,
    grid: tuple[int, ...],
    *args: Any,
    target: str = "sm_90",
    constexprs: Mapping[str, Any] | None = None,
    num_warps: int = 4,
    num_stages: int = 2,
) -> KernelFigures:
    """Return the static figures of a Triton kernel compiled for a GPU that need not be here; ``print`` them.

    Args:
        kernel: A ``@triton.jit`` function.
        grid: Of the launch; the figures do not depend on it.
        args: Its run-time arguments in order; tensors may be on the CPU or ``meta``: dtype, alignment and divisibility
            of integers decide what the compiler may assume.
        target: A key of ``core.targets.TARGETS``, or ``"sm_86"``, ``"sm_89"``.
        constexprs: Its ``tl.constexpr`` arguments by name.
        num_warps: Of one block.
        num_stages: Of software pipelining.

    Raises:
        ValueError: An unknown target, or one without rates in the model.
        RuntimeError: No disassembler, or a process with ``TRITON_INTERPRET=1``.

    Example::

        from lisa_kernels.testing.static import analyze_kernel
        x = torch.empty(4096, dtype=torch.float32)
        print(analyze_kernel(my_kernel, (4,), x, x, 4096, target="sm_90", constexprs={"BLOCK": 1024}))
    """
    options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}
    return analyze_launch(specialise(kernel, grid, args, constexprs=constexprs or {}, options=options), target)


def analyze_launch(record: LaunchRecord, target: Target | str) -> KernelFigures:
    """Return the static figures of a recorded launch; the errors are those of ``analyze_kernel``."""
    from lisa_kernels.testing.compiled import compile_launch

    return read_compiled(compile_launch(record, target))


def read_compiled(compiled: Any) -> KernelFigures:
    """Return the static figures of Triton's compiled kernel, ours or of ``kernel.warmup``."""
    metadata, texts = compiled.metadata, compiled.asm
    toolchain = toolchain_name()
    dots = compiler_text.count_dots(texts["ttir"])
    if metadata.target.backend == "hip":
        return read_amdgcn(
            texts["amdgcn"],
            kernel=metadata.name,
            target=metadata.target.arch,
            warps=metadata.num_warps,
            dynamic_shared_bytes=metadata.shared,
            toolchain=toolchain,
            dots=dots,
        )
    ttgir = texts["ttgir"]
    known = Known(
        threads=32 * compiler_text.total_warps(ttgir, metadata.num_warps),
        dynamic_shared_bytes=metadata.shared,
        toolchain=toolchain,
        dots=dots,
        sm_shape=compiler_text.tcgen05_shape(texts["ptx"]),
        tensor_memory_columns=getattr(metadata, "tmem_size", 0) or 0,
        bulk_bytes_per_product=compiler_text.bulk_bytes_per_product(ttgir),
        warp_specialised=compiler_text.is_warp_specialised(ttgir),
    )
    return read_cubin(texts["cubin"], {metadata.name: known})[0]


def toolchain_name() -> str:
    """Return ``"triton 3.9.0"``: Triton brings its own ptxas and LLVM, so its version names all of them."""
    import triton

    return f"triton {triton.__version__}"
