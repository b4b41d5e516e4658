"""Logic, shifts and bit fields against Python's integers."""

import numpy as np
import pytest

from tests.testing.ptx.snippets import edges, evaluate, pairs

SIZES = {16: "u2", 32: "u4", 64: "u8"}


@pytest.mark.parametrize("bits", SIZES)
def test_logic_is_bitwise(bits):
    a, b = pairs(SIZES[bits])
    for op, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        assert np.array_equal(evaluate(f"{op}.b{bits} %out, %a, %b;", SIZES[bits], a=a, b=b), function(a, b)), op
    assert np.array_equal(evaluate(f"not.b{bits} %out, %a;", SIZES[bits], a=a), ~a)
    assert np.array_equal(evaluate(f"cnot.b{bits} %out, %a;", SIZES[bits], a=a), (a == 0).astype(SIZES[bits]))


def test_logic_of_predicates():
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    for op, function in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        assert np.array_equal(evaluate(f"{op}.pred %out, %a, %b;", "?", a=a, b=b), function(a, b)), op
    assert np.array_equal(evaluate("not.pred %out, %a;", "?", a=a), ~a)


@pytest.mark.parametrize("table", [0x00, 0x80, 0xE8, 0x96, 0xCA, 0x1B, 0xFF])
def test_lop3_looks_each_bit_up(table):
    a, b = pairs("u4")
    c = np.roll(a, 7)
    expected = np.zeros_like(a)
    for bit in range(32):
        index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)
        expected |= ((table >> index) & 1).astype("u4") << np.uint32(bit)
    assert np.array_equal(evaluate(f"lop3.b32 %out, %a, %b, %c, {table};", "u4", a=a, b=b, c=c), expected)


@pytest.mark.parametrize("bits", SIZES)
def test_shifts_beyond_the_width_clear_or_fill_with_the_sign(bits):
    values = np.resize(edges(SIZES[bits]), 400)
    amounts = np.resize(np.array([0, 1, 5, bits - 1, bits, bits + 1, 200, 2**32 - 1], "u4"), 400)
    mask = (1 << bits) - 1
    left = [int(v) << int(n) & mask if n < bits else 0 for v, n in zip(values, amounts, strict=True)]
    right = [int(v) >> int(n) if n < bits else 0 for v, n in zip(values, amounts, strict=True)]
    signed = [int(v) >> min(int(n), bits) for v, n in zip(values.view(f"i{bits // 8}"), amounts, strict=True)]
    dtype = SIZES[bits]
    assert np.array_equal(evaluate(f"shl.b{bits} %out, %a, %n;", dtype, a=values, n=amounts), np.array(left, dtype))
    assert np.array_equal(evaluate(f"shr.u{bits} %out, %a, %n;", dtype, a=values, n=amounts), np.array(right, dtype))
    got = evaluate(f"shr.s{bits} %out, %a, %n;", f"i{bits // 8}", a=values, n=amounts)
    assert np.array_equal(got, np.array(signed, f"i{bits // 8}"))


@pytest.mark.parametrize("mode", ["wrap", "clamp"])
@pytest.mark.parametrize("direction", ["l", "r"])
def test_funnel_shifts(direction, mode):
    low, high = pairs("u4")
    amounts = np.resize(np.array([0, 1, 17, 31, 32, 33, 63, 64, 255], "u4"), len(low))
    expected = []
    for x, y, n in zip(low.tolist(), high.tolist(), amounts.tolist(), strict=True):
        n = n & 31 if mode == "wrap" else min(n, 32)
        both = y << 32 | x
        expected.append(both << n >> 32 & 0xFFFFFFFF if direction == "l" else both >> n & 0xFFFFFFFF)
    got = evaluate(f"shf.{direction}.{mode}.b32 %out, %a, %b, %n;", "u4", a=low, b=high, n=amounts)
    assert np.array_equal(got, np.array(expected, "u4"))


@pytest.mark.parametrize("bits", [32, 64])
def test_counting_and_finding_bits(bits):
    a = edges(SIZES[bits], 100)
    signed = a.view(f"i{bits // 8}")
    text = [format(int(v), f"0{bits}b") for v in a]
    count = np.array([t.count("1") for t in text], "u4")
    zeros = np.array([len(t) - len(t.lstrip("0")) for t in text], "u4")
    highest = np.array([int(v).bit_length() - 1 for v in a], "i4")
    signed_highest = np.array([(~int(v) if v < 0 else int(v)).bit_length() - 1 for v in signed], "i4")
    assert np.array_equal(evaluate(f"popc.b{bits} %out, %a;", "u4", a=a), count)
    assert np.array_equal(evaluate(f"clz.b{bits} %out, %a;", "u4", a=a), zeros)
    assert np.array_equal(evaluate(f"bfind.u{bits} %out, %a;", "i4", a=a), highest)
    assert np.array_equal(evaluate(f"bfind.s{bits} %out, %a;", "i4", a=signed), signed_highest)
    shift = np.where(highest >= 0, bits - 1 - highest, -1).astype("i4")
    assert np.array_equal(evaluate(f"bfind.shiftamt.u{bits} %out, %a;", "i4", a=a), shift)
    reverse = np.array([int(t[::-1], 2) for t in text], SIZES[bits])
    assert np.array_equal(evaluate(f"brev.b{bits} %out, %a;", SIZES[bits], a=a), reverse)


def field(value, start, length, bits, signed):
    """The definition of bfe in the ISA, bit by bit."""
    start, length = start & 255, length & 255
    top = bits - 1
    sign = 0
    if signed and length:
        sign = value >> min(start + length - 1, top) & 1
    result = 0
    for i in range(bits):
        bit = value >> (start + i) & 1 if i < length and start + i <= top else sign
        result |= bit << i
    return result


@pytest.mark.parametrize("name", ["u32", "s32", "u64", "s64"])
def test_fields_are_extracted_as_the_isa_defines(name):
    bits = int(name[1:])
    values = np.resize(edges(SIZES[bits], 30), 900)
    rng = np.random.default_rng(0)
    starts, lengths = (rng.choice([0, 1, 7, 15, 31, 32, 33, 63, 64, 200], 900).astype("u4") for _ in "ab")
    expected = [
        field(int(v), int(s), int(n), bits, name[0] == "s") for v, s, n in zip(values, starts, lengths, strict=True)
    ]
    got = evaluate(f"bfe.{name} %out, %v, %s, %n;", SIZES[bits], v=values, s=starts, n=lengths)
    assert np.array_equal(got, np.array(expected, SIZES[bits]))


@pytest.mark.parametrize("bits", [32, 64])
def test_fields_are_inserted_as_the_isa_defines(bits):
    fields, base = (np.resize(edges(SIZES[bits], 30, seed), 900) for seed in (0, 1))
    rng = np.random.default_rng(0)
    starts, lengths = (rng.choice([0, 1, 7, 15, 31, 32, 33, 63, 64, 200], 900).astype("u4") for _ in "ab")
    expected = []
    for f, b, s, n in zip(fields.tolist(), base.tolist(), starts.tolist(), lengths.tolist(), strict=True):
        for i in range(n):
            if s + i >= bits:
                break
            b = b & ~(1 << (s + i)) | (f >> i & 1) << (s + i)
        expected.append(b)
    got = evaluate(f"bfi.b{bits} %out, %f, %b, %s, %n;", SIZES[bits], f=fields, b=base, s=starts, n=lengths)
    assert np.array_equal(got, np.array(expected, SIZES[bits]))


def test_prmt_picks_bytes_and_copies_signs():
    a, b = pairs("u4")
    selectors = np.random.default_rng(0).integers(0, 1 << 16, len(a)).astype("u4")
    expected = []
    for x, y, s in zip(a.tolist(), b.tolist(), selectors.tolist(), strict=True):
        pool = (y << 32 | x).to_bytes(8, "little")
        result = 0
        for i in range(4):
            nibble = s >> 4 * i & 15
            byte = pool[nibble & 7]
            byte = (0xFF if byte & 0x80 else 0) if nibble & 8 else byte
            result |= byte << 8 * i
        expected.append(result)
    assert np.array_equal(evaluate("prmt.b32 %out, %a, %b, %s;", "u4", a=a, b=b, s=selectors), np.array(expected, "u4"))


@pytest.mark.parametrize(
    ("mode", "rows"),
    # From the ISA's table: source bytes of the result, highest first, for selectors 0 to 3.
    [
        ("f4e", [(3, 2, 1, 0), (4, 3, 2, 1), (5, 4, 3, 2), (6, 5, 4, 3)]),
        ("b4e", [(5, 6, 7, 0), (6, 7, 0, 1), (7, 0, 1, 2), (0, 1, 2, 3)]),
        ("rc8", [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)]),
        ("ecl", [(3, 2, 1, 0), (3, 2, 1, 1), (3, 2, 2, 2), (3, 3, 3, 3)]),
        ("ecr", [(0, 0, 0, 0), (1, 1, 1, 0), (2, 2, 1, 0), (3, 2, 1, 0)]),
        ("rc16", [(1, 0, 1, 0), (3, 2, 3, 2), (1, 0, 1, 0), (3, 2, 3, 2)]),
    ],
)
def test_prmt_modes_follow_the_table(mode, rows):
    a, b = np.full(4, 0x13121110, "u4"), np.full(4, 0x17161514, "u4")
    selectors = np.arange(4, dtype="u4")
    expected = [sum((0x10 + byte) << 8 * (3 - i) for i, byte in enumerate(row)) for row in rows]
    got = evaluate(f"prmt.b32.{mode} %out, %a, %b, %s;", "u4", a=a, b=b, s=selectors)
    assert np.array_equal(got, np.array(expected, "u4"))


def test_vectors_are_packed_and_unpacked_lowest_first():
    a = edges("u8")
    code = ".reg .b32 %x; .reg .b32 %y; mov.b64 {%x, %y}, %a; mov.b64 %out, {%y, %x};"
    assert np.array_equal(evaluate(code, "u8", a=a), a << np.uint64(32) | a >> np.uint64(32))
    code = ".reg .b16 %x<4>; mov.b64 {%x0, %x1, %x2, %x3}, %a; mov.b64 %out, {%x3, %x2, %x1, %x0};"
    assert np.array_equal(
        evaluate(code, "u8", a=a), np.ascontiguousarray(a.view("u2").reshape(-1, 4)[:, ::-1]).view("u8")[:, 0]
    )
