"""PTX written by hand for tests: a few instructions between loads of inputs and the store of one output."""

from __future__ import annotations

import numpy as np

from lisa_kernels.testing.ptx import Module, Report

HEADER = ".version 8.7\n.target sm_90a\n.address_size 64\n"
_THREADS = 256


def kernel(body: str, parameters: str = ".param .u64 out", *, module: str = "", threads: int = 0) -> Module:
    """A module with one kernel ``k``; its body may use %r, %rd, %f, %d, %h and %p registers 0 to 31."""
    declared = (
        ".reg .pred %p<32>; .reg .b16 %h<32>; .reg .b32 %r<32>; .reg .b64 %rd<32>; .reg .b32 %f<32>; .reg .b64 %d<32>;"
    )
    required = f".reqntid {threads}" if threads else ""
    return Module(f"{HEADER}{module}\n.visible .entry k({parameters}) {required} {{\n{declared}\n{body}\n}}\n")


def evaluate(code: str, out: str, **inputs: np.ndarray) -> np.ndarray:
    """Run ``code`` once for each element and return its results.

    Args:
        code: Instructions that read ``%a``, ``%b``, ... (the inputs' names) and write ``%out``.
        out: numpy dtype of the result; ``"?"`` if ``%out`` is a predicate.
        inputs: Arrays of one length, dtypes of 1 to 8 bytes; bool for predicates.
    """
    count = len(next(iter(inputs.values())))
    arrays = {name: _padded(np.asarray(values)) for name, values in inputs.items()}
    blocks = -(-count // _THREADS)
    stored = np.dtype("u1" if out == "?" else out)
    result = np.zeros(blocks * _THREADS, stored)
    lines = [".reg .b32 %i; .reg .b32 %j; .reg .b64 %at; .reg .b64 %base; .reg .b16 %byte; .reg .b64 %offset;"]
    lines += [
        "mov.u32 %i, %ctaid.x; mov.u32 %j, %ntid.x; mul.lo.s32 %i, %i, %j; mov.u32 %j, %tid.x; add.s32 %i, %i, %j;"
    ]
    for name, values in arrays.items():
        lines.append(_load(name, values.dtype))
    lines += [_declare("out", np.dtype(out)), code]
    size = stored.itemsize
    value = "%out"
    if out == "?":
        lines.append("selp.u16 %byte, 1, 0, %out;")
        value = "%byte"
    lines.append(f"ld.param.u64 %base, [out]; mul.wide.u32 %offset, %i, {size}; add.s64 %at, %base, %offset;")
    lines.append(f"st.global.b{8 * size} [%at], {value};")
    parameters = ", ".join(f".param .u64 in_{name}" for name in arrays) + ", .param .u64 out"
    module = kernel("\n".join(lines), parameters)
    module.launch("k", (blocks,), (_THREADS,), [*arrays.values(), result])
    return result[:count].astype(bool) if out == "?" else result[:count]


def _padded(values: np.ndarray) -> np.ndarray:
    short = -len(values) % _THREADS
    return np.ascontiguousarray(np.concatenate([values, np.zeros(short, values.dtype)]))


def _declare(name: str, dtype: np.dtype) -> str:
    if dtype.kind == "b":
        return f".reg .pred %{name};"
    # The smallest register has 16 bits.
    return f".reg .b{max(16, 8 * dtype.itemsize)} %{name};"


def _load(name: str, dtype: np.dtype) -> str:
    size = dtype.itemsize
    address = f"ld.param.u64 %base, [in_{name}]; mul.wide.u32 %offset, %i, {size}; add.s64 %at, %base, %offset;"
    if dtype.kind == "b":
        return f"{_declare(name, dtype)} {address} ld.global.b8 %byte, [%at]; setp.ne.s16 %{name}, %byte, 0;"
    return f"{_declare(name, dtype)} {address} ld.global.b{8 * size} %{name}, [%at];"


def run_block(body: str, *args: np.ndarray, threads: int = 32, **options: object) -> Report:
    """Run a kernel body in one block; ``args`` are reached through %rd0, %rd1, ..."""
    names = [f"p{i}" for i in range(len(args))]
    loads = " ".join(f"ld.param.u64 %rd{i}, [{name}];" for i, name in enumerate(names))
    module = kernel(loads + body, ", ".join(f".param .u64 {name}" for name in names))
    return module.launch("k", options.pop("grid", (1,)), (threads,), args, **options)


def edges(dtype: str, count: int = 64, seed: int = 0) -> np.ndarray:
    """Integers at the limits of a dtype, around zero, powers of two, and random ones."""
    info = np.iinfo(dtype)
    special = {info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 7, 31, 32, 33, 63, 64, 65}
    special |= {1 << (info.bits // 2), (1 << (info.bits // 2)) - 1} | ({-1, -2, -31} if info.min else set())
    inside = sorted(value for value in special if info.min <= value <= info.max)
    rng = np.random.default_rng(seed)
    random = rng.integers(info.min, info.max, count, dtype=dtype, endpoint=True)
    return np.concatenate([np.array(inside, dtype), random])


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of edge values, and random pairs."""
    values = edges(dtype, 8)
    first, second = (grid.reshape(-1) for grid in np.meshgrid(values, values))
    return first.copy(), second.copy()


def float_edges(dtype: str = "f4", count: int = 200, seed: int = 0) -> np.ndarray:
    """Floats: both zeros, subnormals, limits, infinities, NaN, ties, and random bit patterns."""
    info = np.finfo(dtype)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny]
    special += [info.tiny / 2, -info.tiny / 2, float(info.smallest_subnormal), 1 + info.eps, 1 - info.epsneg, 3.4e10]
    rng = np.random.default_rng(seed)
    size = np.dtype(dtype).itemsize
    bits = rng.integers(0, 1 << 8 * size, count, dtype=f"u{size}") if size < 8 else rng.integers(0, 1 << 63, count)
    with np.errstate(all="ignore"):
        return np.concatenate([np.array(special, dtype), bits.astype(f"u{size}").view(dtype)])


def same_floats(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bits, all NaN alike."""
    unsigned = f"u{got.dtype.itemsize}"
    both_nan = np.isnan(got) & np.isnan(expected)
    return bool((both_nan | (got.view(unsigned) == expected.view(unsigned))).all())
