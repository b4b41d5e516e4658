"""Host code of the Triton kernels: allocate, pick tiles, launch.  Nothing on the device is read here.

Scratch: 8 bytes a query and head in backward.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from lisa_kernels.core.launch import launch
from lisa_kernels.core.targets import current_target
from lisa_kernels.core.tiling import pick
from lisa_kernels.ops.attention import kernels_forward, kernels_key_grad, kernels_query_grad, tiles
from lisa_kernels.ops.attention.kernels import PLAN_TILE
from lisa_kernels.ops.attention.strides import dense_heads, laid_out_like
from lisa_kernels.ops.attention.tiles import AttentionTile

_LOG2_E = math.log2(math.e)
# Elements of one 128-bit access of half precision.
_VECTOR = 8
# TMA takes addresses and strides in these units.
_DESCRIPTOR_BYTES = 16
# Offsets inside of a tile are 32-bit.
_LONGEST_STRIDE = 2**31 // PLAN_TILE.value - 1


def refuse(named: dict[str, Any]) -> str | None:
    """Return why these kernels cannot run a call, or None."""
    if named["q"].dtype == torch.float64:
        return "float64; it takes float32, bfloat16 and float16: use the cpu or reference backend"
    return None


def forward(
    q: Tensor, k: Tensor, v: Tensor, tokens_q: Tensor, tokens_k: Tensor, words: Tensor, head_type: Tensor,
    lists_q: Tensor, lists_k: Tensor, order_q: Tensor, order_k: Tensor, scale: float, causal: bool, exact: bool,
    reordered: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    queries, heads, _ = q.shape
    out = q.new_empty(queries, heads, v.shape[2])
    lse2 = q.new_empty((heads, queries), dtype=torch.float32)
    if k.shape[0] == 0:
        return out.zero_(), lse2.fill_(torch.inf)
    q, k, v = (_readable(x) for x in (q, k, v))
    tile = _pick("forward", (q, k, v), reordered)
    rows = tile.QUERIES, tile.KEYS, tile.KEYS
    launch(
        kernels_forward.attention_forward_kernel, (len(order_q) * (PLAN_TILE.value // tile.QUERIES),),
        *_sources((q, k, v), rows, tile), out, lse2, tokens_q, tokens_k, words, head_type, lists_q, order_q,
        scale * _LOG2_E, queries, k.shape[0], lists_q.shape[2], heads, heads // k.shape[1], *_strides(q, k, v),
        tile=tile, **_widths(q, v), VECTOR=_vector(q, k, v), SAME_STRIDES=_same_strides(k, v), CAUSAL=causal,
        EXACT=exact, REORDERED=reordered,
    )  # fmt: skip
    return out, lse2


def backward(
    grad_out: Tensor, grad_lse2: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse2: Tensor, tokens_q: Tensor,
    tokens_k: Tensor, words: Tensor, head_type: Tensor, lists_q: Tensor, lists_k: Tensor, order_q: Tensor,
    order_k: Tensor, scale: float, causal: bool, exact: bool, reordered: bool, needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    given = q, k, v
    # One kernel makes both gradients of keys.
    wanted = needs[0], needs[1] or needs[2], needs[1] or needs[2]
    grad_q, grad_k, grad_v = (x.new_empty(x.shape if want else 0) for x, want in zip(given, wanted, strict=True))
    if 0 in (q.shape[0], k.shape[0]):
        grads = (grad.zero_() for grad in (grad_q, grad_k, grad_v))
        return _laid_out(grads, given, needs)
    q, k, v = (_readable(x) for x in given)
    queries, heads, _ = q.shape
    keys, heads_k, _ = k.shape
    row_lse2, row_delta = lse2.new_empty((2, heads, tokens_q.shape[1])).unbind(0)
    widths = _widths(q, v)
    tile = pick(tiles.DELTA, current_target(q.device), widths["DV_COLUMNS"])
    launch(
        kernels_query_grad.attention_delta_kernel, (heads * (tokens_q.shape[1] // tile.QUERIES),), out, grad_out, lse2,
        grad_lse2, tokens_q, row_lse2, row_delta, queries, heads, tile=tile, DV=widths["DV"],
        DV_COLUMNS=widths["DV_COLUMNS"], REORDERED=reordered,
    )  # fmt: skip
    flags = {**widths, "VECTOR": _vector(q, k, v), "CAUSAL": causal, "EXACT": exact, "REORDERED": reordered}
    plan = row_lse2, row_delta, tokens_q, tokens_k, words, head_type
    operands = q, k, v, grad_out
    if needs[0]:
        tile = _pick("query_grad", operands, reordered)
        rows = tile.QUERIES, tile.KEYS, tile.KEYS, tile.QUERIES
        launch(
            kernels_query_grad.attention_query_grad_kernel, (len(order_q) * (PLAN_TILE.value // tile.QUERIES),),
            *_sources(operands, rows, tile), grad_q, *plan, lists_q, order_q, scale * _LOG2_E, scale, queries, keys,
            lists_q.shape[2], heads, heads // heads_k, *_strides(q, k, v), tile=tile, **flags,
            SAME_STRIDES=_same_strides(k, v),
        )  # fmt: skip
    if wanted[1]:
        tile = _pick("key_grad", operands, reordered)
        rows = tile.QUERIES, tile.KEYS, tile.KEYS, tile.QUERIES
        launch(
            kernels_key_grad.attention_key_grad_kernel, (len(order_k) * heads_k * (PLAN_TILE.value // tile.KEYS),),
            *_sources(operands, rows, tile), grad_k, grad_v, *plan, lists_k, order_k, scale * _LOG2_E, scale, queries,
            keys, lists_k.shape[2], heads_k, heads // heads_k, *_strides(q, k, v), tile=tile, **flags,
            SAME_STRIDES=_same_strides(q, grad_out),
        )  # fmt: skip
    return _laid_out((grad_q, grad_k, grad_v), given, needs)


def _readable(x: Tensor) -> Tensor:
    """Return ``x`` as the kernels address it, a copy only where it must be."""
    x = dense_heads(x)
    return x if _token_stride(x) <= _LONGEST_STRIDE else x.contiguous()


def _laid_out(grads: Any, given: tuple[Tensor, ...], needs: list[bool]) -> tuple[Tensor, ...]:
    return tuple(
        laid_out_like(grad, x) if need else x.new_empty(0) for grad, x, need in zip(grads, given, needs, strict=True)
    )


def _pick(kernel: str, operands: tuple[Tensor, ...], reordered: bool) -> AttentionTile:
    """Return the tile of a call, without descriptors where they cannot be or spill.

    They cannot where rows are gathered or memory is not aligned.  Where columns are padded, 96 to 128 or 192 to 256,
    they spill on sm_90, up to 650 bytes, in all but the forward kernel up to 128 columns.
    """
    tables = tiles.WIDE if operands[0].dtype == torch.float32 else tiles.HALF
    columns = max(map(_columns, operands))
    tile = pick(tables[kernel], current_target(operands[0].device), columns)
    padded = any(x.shape[2] != _columns(x) for x in operands) and (kernel != "forward" or columns > 128)
    if tile.DESCRIPTORS and (reordered or padded or not all(map(_is_aligned, operands))):
        return dataclasses.replace(tile, DESCRIPTORS=False)
    return tile


def _is_aligned(x: Tensor) -> bool:
    start = x.storage_offset() * x.element_size() if x.is_meta else x.data_ptr()
    return start % _DESCRIPTOR_BYTES == 0 and _token_stride(x) * x.element_size() % _DESCRIPTOR_BYTES == 0


def _sources(operands: tuple[Tensor, ...], rows: tuple[int, ...], tile: AttentionTile) -> tuple[Any, ...]:
    """Return what kernels load from: the tensors, or descriptors whose blocks are that many rows of one head."""
    if not tile.DESCRIPTORS:
        return operands
    return tuple(
        TensorDescriptor(x, [len(x), x.shape[1] * x.shape[2]], [_token_stride(x), 1], [count, _columns(x)])
        for x, count in zip(operands, rows, strict=True)
    )


def _columns(x: Tensor) -> int:
    return triton.next_power_of_2(x.shape[2])


def _widths(q: Tensor, v: Tensor) -> dict[str, int]:
    return {"D": q.shape[2], "DV": v.shape[2], "D_COLUMNS": _columns(q), "DV_COLUMNS": _columns(v)}


def _token_stride(x: Tensor) -> int:
    return x.stride(0) if x.shape[0] > 1 else x.shape[1] * x.shape[2]


def _vector(*tensors: Tensor) -> int:
    return math.gcd(_VECTOR, *map(_token_stride, tensors))


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    """Return the token strides in vectors: Triton knows nothing of a stride that is a multiple of 8 alone."""
    vector = _vector(*tensors)
    return tuple(_token_stride(x) // vector for x in tensors)


def _same_strides(a: Tensor, b: Tensor) -> bool:
    return _token_stride(a) == _token_stride(b) and a.shape[2] == b.shape[2]
