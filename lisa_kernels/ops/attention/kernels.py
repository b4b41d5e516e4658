"""Device code that all attention kernels share: rows of q, k and v, and who sees whom inside a tile.

``tokens`` is a table of the plan, one row of ``padded`` slots each for class bit, position, sample, class and, in
reordered plans, token.  Tables reach to the end of the last tile, so they are read without a mask.
"""

import triton
import triton.language as tl

from lisa_kernels.core.tl_math import to_dtype

# Tokens of a tile of the plan; a kernel steps through one in as many tokens as it likes.
PLAN_TILE = tl.constexpr(128)
# Rows and width of the plan's table of words: two for owners that query, two for owners that are keys.
_WORD_ROWS = tl.constexpr(4)
_CLASSES = tl.constexpr(33)


@triton.jit
def padded_to_tiles(count):
    """Slots of a table for ``count`` tokens."""
    return tl.cdiv(count, PLAN_TILE) * PLAN_TILE


@triton.jit
def find_list(lists, kind, tile, tiles, capacity):
    """The entries of a tile's list, how many come first and need a mask, and how many there are.

    Args:
        capacity: Length of a list with its two counts.
    """
    start = lists + (kind * tiles + tile).to(tl.int64) * capacity
    return start + 2, tl.load(start).to(tl.int32), tl.load(start + 1).to(tl.int32)


@triton.jit
def slot_of_step(entries, step, STEP: tl.constexpr):
    """First slot of a step; one counter goes through all listed tiles, ``PLAN_TILE // STEP`` steps each."""
    steps: tl.constexpr = PLAN_TILE // STEP
    listed = step // steps
    return tl.load(entries + listed).to(tl.int32) * PLAN_TILE + (step - listed * steps) * STEP


@triton.jit
def load_rows(
    source, tokens, padded, start, head, stride, limit,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, INSIDE: tl.constexpr, REORDERED: tl.constexpr,
    DESCRIPTOR: tl.constexpr,
):  # fmt: skip
    """Rows of one head, of ``ROWS`` slots from ``start`` on, ``[ROWS, COLUMNS]``.

    Args:
        source: Tensor ``[limit, heads, WIDTH]``, or a descriptor of it as ``[limit, heads * WIDTH]`` with blocks
            ``[ROWS, COLUMNS]``; the columns from WIDTH on then are those of the next head.  A descriptor of three
            dimensions would give zeros, but Triton 3.9 moves its blocks through registers (580 instructions a full
            tile instead of 530, forward, D = 128, sm_90).
        stride: Elements from token to token.
        INSIDE: No slot is past the last token.  Else such rows are 0 or those of some token: they are never seen, and
            a mask of rows would cost registers.
    """
    if DESCRIPTOR:
        loaded = source.load([start, head * WIDTH])
    else:
        columns = tl.arange(0, COLUMNS)
        if REORDERED:
            # Slots past the last token name token 0.
            rows = tl.load(tokens + 4 * padded + start + tl.arange(0, ROWS)).to(tl.int64)
            at = source + head * WIDTH + (rows[:, None] * stride + columns[None, :])
        else:
            # One 64-bit product a tile; inside a tile 32 bits hold what the host lets through.
            first = source + start.to(tl.int64) * stride + head * WIDTH
            rows = tl.arange(0, ROWS)
            if not INSIDE:
                rows = tl.minimum(rows, limit - 1 - start)
            at = first + (rows[:, None] * stride + columns[None, :])
        if WIDTH != COLUMNS:
            loaded = tl.load(at, mask=(columns < WIDTH)[None, :], other=0.0)
        else:
            loaded = tl.load(at)
    return loaded


@triton.jit
def load_owned_rows(
    source, tokens, padded, start, head, stride, limit,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, REORDERED: tl.constexpr, DESCRIPTOR: tl.constexpr,
):  # fmt: skip
    """The same for rows that a program keeps; columns from WIDTH on are 0, so a product over them is right."""
    rows = load_rows(
        source, tokens, padded, start, head, stride, limit, ROWS, WIDTH, COLUMNS, False, REORDERED, DESCRIPTOR
    )
    if DESCRIPTOR and WIDTH != COLUMNS:
        rows = tl.where((tl.arange(0, COLUMNS) < WIDTH)[None, :], rows, tl.zeros_like(rows))
    return rows


@triton.jit
def store_rows(
    target, value, tokens, padded, start, head, stride, limit,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, REORDERED: tl.constexpr,
):  # fmt: skip
    """Write ``[ROWS, COLUMNS]``, rounded to the target's dtype, to where ``load_rows`` reads it."""
    columns = tl.arange(0, COLUMNS)
    rows = rows_of_slots(tokens, padded, start, ROWS, REORDERED)
    mask = (start + tl.arange(0, ROWS) < limit)[:, None]
    if WIDTH != COLUMNS:
        mask = mask & (columns < WIDTH)[None, :]
    at = target + head * WIDTH + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(at, to_dtype(value, target.dtype.element_ty), mask=mask)


@triton.jit
def rows_of_slots(tokens, padded, start, ROWS: tl.constexpr, REORDERED: tl.constexpr):
    """Tokens in ``ROWS`` slots from ``start`` on."""
    rows = start + tl.arange(0, ROWS)
    if REORDERED:
        rows = tl.load(tokens + 4 * padded + rows)
    return rows


@triton.jit
def load_facts(tokens, padded, slots, CAUSAL: tl.constexpr, EXACT: tl.constexpr):
    """Class bits, positions and samples of slots; what the plan does not look at is the bits once more."""
    bit = tl.load(tokens + slots)
    position = bit
    sample = bit
    if CAUSAL:
        position = tl.load(tokens + padded + slots)
    if EXACT:
        sample = tl.load(tokens + 2 * padded + slots)
    return bit, position, sample


@triton.jit
def load_words(words, kind, row, tokens, padded, slots, CAUSAL: tl.constexpr):
    """Class bits that the owners in ``slots`` pair with where the key is not later, and where it is.

    Args:
        row: 0 where queries own the tile, 2 where keys do.
    """
    at = words + (kind * _WORD_ROWS + row) * _CLASSES + tl.load(tokens + 3 * padded + slots)
    not_later = tl.load(at)
    later = not_later
    if CAUSAL:
        later = tl.load(at + _CLASSES)
    return not_later, later


@triton.jit
def is_seen(
    not_later, later, bit, position_q, position_k, sample_q, sample_k, CAUSAL: tl.constexpr, EXACT: tl.constexpr
):
    """Which pairs of a listed tile are seen; arguments broadcast, words belong to the owner and bits to the other."""
    word = not_later
    if CAUSAL:
        word = tl.where(position_q >= position_k, not_later, later)
    seen = (word & bit) != 0
    if EXACT:
        seen = seen & (sample_q == sample_k)
    return seen
