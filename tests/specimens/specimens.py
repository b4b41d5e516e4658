"""The specimens with their inputs, launch choices and expectations.

Each comes with several problems: a mask that never cuts and a pipeline that never drains hide what is wrong with them.
Sizes keep the divisibility by 16 that the first problem has, since kernels are compiled for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.tiling import Tile
from tests.specimens import triton_kernels
from tests.specimens.tiles import LARGE_TILES, TILES


@dataclasses.dataclass(frozen=True)
class Specimen:
    """One kernel, and a problem small enough to emulate.

    Attributes:
        kernel: A ``@triton.jit`` function.
        grid: ``(args, tile) -> grid``.
        problems: Sizes; the first is that of ``make_args(seed)``.
        make_sized_args: ``(seed, *sizes) -> run-time arguments`` on the CPU; outputs hold NaN.
        outputs: Names of the arguments that the kernel writes.
        expected: ``(args) -> outputs by name`` in fp64.
        depth: Roundings in sequence behind an output.
        tile: Launch choice; ``constexprs`` beyond it.
        large_tile: Block sizes as a product would ship them, for compilation.
    """

    name: str
    kernel: Any
    grid: Callable[[tuple[Any, ...], Tile], tuple[int, ...]]
    problems: tuple[tuple[int, ...], ...]
    make_sized_args: Callable[..., tuple[Any, ...]]
    outputs: tuple[str, ...]
    expected: Callable[[tuple[Any, ...]], dict[str, Tensor]]
    depth: int
    tile: Tile
    large_tile: Tile
    constexprs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def make_args(self, seed: int, problem: int = 0) -> tuple[Any, ...]:
        """Return the run-time arguments of one of the problems."""
        return self.make_sized_args(seed, *self.problems[problem])

    def launch(self, args: tuple[Any, ...], tile: Tile | None = None) -> None:
        """Launch on ``args`` through ``core.launch.launch``, with another tile if wished."""
        tile = tile or self.tile
        launch(self.kernel, self.grid(args, tile), *args, tile=tile, **self.constexprs)

    def named(self, args: tuple[Any, ...]) -> dict[str, Any]:
        """Return the run-time arguments by the kernel's parameter names."""
        return dict(zip(self.kernel.arg_names, args, strict=False))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _padded(rows: int, cols: int, stride: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Return a view of ``cols`` columns in rows of ``stride`` elements; the padding is NaN."""
    storage = torch.full((rows, stride), math.nan, dtype=dtype)
    storage[:, :cols] = torch.randn(rows, cols, generator=_generator(seed)).to(dtype)
    return storage[:, :cols]


def _matmul_args(seed: int, M: int, N: int, K: int) -> tuple[Any, ...]:
    a = _padded(M, K, K + 16, torch.bfloat16, seed)
    b = _padded(K, N, N + 16, torch.bfloat16, seed + 1)
    out = torch.full((M, N + 16), math.nan, dtype=torch.bfloat16)[:, :N]
    return a, b, out, M, N, K, a.stride(0), b.stride(0), out.stride(0)


def _softmax_args(seed: int, rows: int, cols: int) -> tuple[Any, ...]:
    x = _padded(rows, cols, 1008, torch.float32, seed)
    out = torch.full((rows, 1008), math.nan)[:, :cols]
    return x, out, cols, x.stride(0), out.stride(0)


def _attention_args(seed: int, n_queries: int, n_keys: int) -> tuple[Any, ...]:
    heads, head_dim = 2, 64
    q, k, v = (
        torch.randn(heads, tokens, head_dim, generator=_generator(seed + i)).half()
        for i, tokens in enumerate((n_queries, n_keys, n_keys))
    )
    out = torch.full_like(q, math.nan)
    lse = torch.full((heads, n_queries), math.nan)
    return q, k, v, out, lse, n_queries, n_keys, head_dim**-0.5 / math.log(2)


def _attention_expected(args: tuple[Any, ...]) -> dict[str, Tensor]:
    q, k, v, _, _, _, _, scale_log2 = args
    scores = q.double() @ k.double().mT * (scale_log2 * math.log(2))
    return {"out_ptr": scores.softmax(-1) @ v.double(), "lse_ptr": scores.logsumexp(-1)}


def _scan_args(seed: int, rows: int, steps: int) -> tuple[Any, ...]:
    gate = _padded(rows, steps, 304, torch.float32, seed).sigmoid_()
    x = _padded(rows, steps, 304, torch.float32, seed + 1)
    out = torch.full((rows, 304), math.nan)[:, :steps]
    return gate, x, out, steps, x.stride(0)


def _scan_expected(args: tuple[Any, ...]) -> dict[str, Tensor]:
    gate, x = args[0].double(), args[1].double()
    states = [x[:, 0]]
    for t in range(1, x.shape[1]):
        states.append(gate[:, t] * states[-1] + x[:, t])
    return {"out_ptr": torch.stack(states, 1)}


def _cover(size: int, block: int) -> int:
    return -(-size // block)


SPECIMENS = {
    specimen.name: specimen
    for specimen in (
        Specimen(
            "matmul",
            triton_kernels.matmul_kernel,
            grid=lambda args, tile: (_cover(args[3], tile.BLOCK_M), _cover(args[4], tile.BLOCK_N)),
            problems=((100, 80, 80), (5, 16, 16), (70, 16, 48), (3, 80, 112), (65, 48, 144), (130, 80, 176)),
            make_sized_args=_matmul_args,
            outputs=("out_ptr",),
            expected=lambda args: {"out_ptr": args[0].double() @ args[1].double()},
            depth=80,
            tile=TILES["matmul"],
            large_tile=LARGE_TILES["matmul"],
        ),
        Specimen(
            "softmax",
            triton_kernels.softmax_kernel,
            grid=lambda args, tile: (args[0].shape[0],),
            problems=((5, 1000), (2, 1), (2, 2), (2, 3), (1, 513), (2, 514), (2, 515)),
            make_sized_args=_softmax_args,
            outputs=("out_ptr",),
            expected=lambda args: {"out_ptr": args[0].double().softmax(-1)},
            depth=16,
            tile=TILES["softmax"],
            large_tile=LARGE_TILES["softmax"],
        ),
        Specimen(
            "attention",
            triton_kernels.attention_kernel,
            grid=lambda args, tile: (_cover(args[5], tile.BLOCK_M), args[0].shape[0]),
            problems=((70, 90), (3, 5), (65, 33), (1, 70), (130, 130)),
            make_sized_args=_attention_args,
            outputs=("out_ptr", "lse_ptr"),
            expected=_attention_expected,
            depth=128,
            tile=TILES["attention"],
            large_tile=LARGE_TILES["attention"],
        ),
        Specimen(
            "scan",
            triton_kernels.scan_kernel,
            grid=lambda args, tile: (args[0].shape[0],),
            problems=((3, 300), (2, 5), (1, 129)),
            make_sized_args=_scan_args,
            outputs=("out_ptr",),
            expected=_scan_expected,
            depth=300,
            tile=TILES["scan"],
            large_tile=LARGE_TILES["scan"],
        ),
    )
}
