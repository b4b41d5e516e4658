"""Tensor copies by hand: layouts in shared memory, ranks, and what is wrong with a tensor map."""

import itertools

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from lisa_kernels.testing.ptx.tensor_maps import SIZE, encode_tensor_map
from tests.testing.ptx.snippets import kernel

SETUP = """.shared .align 1024 .b8 d[8192]; .shared .align 8 .b8 bar[8]; mov.u32 %r0, %tid.x; setp.eq.u32 %p0, %r0, 0;
mov.u64 %rd0, map; cvta.param.u64 %rd0, %rd0; ld.param.u64 %rd1, [out];
@%p0 mbarrier.init.shared::cta.b64 [bar], 1; bar.sync 0;"""
EXPECT = "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {size};"
LOAD = """@%p0 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
[d], [%rd0, {{{place}}}], [bar];"""
WAIT = "w: mbarrier.try_wait.parity.shared::cta.b64 %p5, [bar], 0; @!%p5 bra w;"
# The box as it lies in shared memory, 16 bytes for each thread in turn.
DUMP = """mul.lo.u32 %r3, %r0, 16; l: setp.ge.u32 %p6, %r3, {size}; @%p6 bra e; mov.u32 %r4, d; add.u32 %r4, %r4, %r3;
ld.shared.v4.b32 {{%r5, %r6, %r7, %r8}}, [%r4]; cvt.u64.u32 %rd3, %r3; add.s64 %rd3, %rd1, %rd3;
st.global.v4.b32 [%rd3], {{%r5, %r6, %r7, %r8}}; add.u32 %r3, %r3, 512; bra l; e:"""
# The element types of tensormap.replace.
TYPES = {"u1": 0, "u2": 1, "u4": 2, "i4": 3, "u8": 4, "i8": 5, "f2": 6, "f4": 7, "f8": 9}


def map_of(x, box, *, swizzle=0, nan=False, **changed):
    given = {
        "address": x.ctypes.data, "shape": x.shape, "strides": [s // x.itemsize for s in x.strides], "box": box,
        "element_bytes": x.itemsize, "element_type": TYPES[x.dtype.str[1:]], "swizzle_mode": swizzle, "fill_nan": nan,
    } | changed  # fmt: skip
    address, shape, strides = (given.pop(name) for name in ("address", "shape", "strides"))
    return encode_tensor_map(address, shape, strides, **given)


def run(code, tensor_map, x, out, **options):
    parameters = f".param .align 64 .b8 map[{SIZE}], .param .u64 out"
    module = kernel(SETUP + code, parameters)
    module.launch("k", options.pop("grid", (1,)), (32,), [tensor_map, out], buffers=[x], **options)


def load(x, box, place, **options):
    """The box at a place, as it lies in shared memory."""
    out = np.zeros(int(np.prod(box)), x.dtype)
    code = EXPECT.format(size=out.nbytes)
    code += LOAD.format(rank=x.ndim, place=", ".join(map(str, reversed(place)))) + WAIT + DUMP.format(size=out.nbytes)
    run(code, map_of(x, box, **options), x, out)
    return out.reshape(box)


def aligned(shape, dtype, seed=0):
    count = int(np.prod(shape))
    room = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    x = room[start : start + count * np.dtype(dtype).itemsize].view(dtype)
    x[:] = np.random.default_rng(seed).integers(1, 100, count)
    return x.reshape(shape)


def window(x, box, place, fill):
    """The box at a place by its definition."""
    out = np.full(box, fill, x.dtype)
    for index in itertools.product(*map(range, box)):
        at = tuple(i + p for i, p in zip(index, place, strict=True))
        if all(0 <= i < size for i, size in zip(at, x.shape, strict=True)):
            out[index] = x[at]
    return out


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_boxes_of_every_rank_and_type(rank, dtype):
    line = 32 // np.dtype(dtype).itemsize
    shape, box = (3, 2, 5, 4, 2 * line)[-rank:], (2, 2, 3, 2, line)[-rank:]
    x = aligned(shape, dtype)
    for place in ((1, 0, 2, 1, 3), (0, 0, 0, 0, 0), (-1, 1, -2, 3, -5), (2, 1, 4, 3, 2 * line - 1), (0, 0, 0, 9, 0)):
        place = place[-rank:]
        assert np.array_equal(load(x, box, place), window(x, box, place, 0)), place


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_outside_is_nan_where_the_map_says_so(dtype):
    x, box = aligned((5, 16), dtype), (4, 8)
    expected = window(x, box, (3, 12), np.nan)
    assert np.array_equal(load(x, box, (3, 12), nan=True), expected, equal_nan=True)


@pytest.mark.parametrize(("mode", "line"), [(1, 32), (2, 64), (3, 128)])
def test_swizzled_boxes(mode, line):
    x = aligned((24, 2 * line), "u1")
    got = load(x, (16, line), (3, 16), swizzle=mode).reshape(-1, 16)
    plain = x[3:19, 16 : 16 + line].reshape(-1, 16)
    rows = np.arange(len(plain))
    # Three, two or one bits of the place above 128 bytes are added to the place of 16 bytes within a line.
    swizzled = rows ^ (rows >> 3 & (line // 16 - 1))
    assert np.array_equal(got[swizzled], plain)
    assert not np.array_equal(got, plain)


FILL = """mul.lo.u32 %r3, %r0, 16; mov.u32 %r4, d; add.u32 %r4, %r4, %r3; add.u32 %r5, %r0, 1;
st.shared.v4.b32 [%r4], {%r5, %r5, %r5, %r5}; fence.proxy.async.shared::cta; bar.sync 0;"""
END = "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"


@pytest.mark.parametrize("place", [(0, 0), (5, 12), (-3, -4), (7, 0), (90, 0)])
@pytest.mark.parametrize("operation", ["", "add", "max"])
def test_stores_and_reductions_leave_out_what_lies_outside(place, operation):
    x, box = aligned((10, 20), "u4"), (8, 16)
    opcode = f"cp.{'reduce.' if operation else ''}async.bulk.tensor.2d.global.shared::cta.{operation}".rstrip(".")
    store = f"@%p0 {opcode}.tile.bulk_group [%rd0, {{{place[1]}, {place[0]}}}], [d];"
    new = np.repeat(np.arange(32, dtype="u4") + 1, 4).reshape(box)
    expected = x.copy()
    for i, j in itertools.product(range(8), range(16)):
        row, column = place[0] + i, place[1] + j
        if 0 <= row < 10 and 0 <= column < 20:
            old = x[row, column]
            expected[row, column] = {"": new[i, j], "add": old + new[i, j], "max": max(old, new[i, j])}[operation]
    run(FILL + store + END, map_of(x, box), x, np.zeros(1, "u4"))
    assert np.array_equal(x, expected)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"box": (257, 4)}, "a dimension takes 1 to 256 elements"),
        ({"box": (0, 4)}, "a dimension takes 1 to 256 elements"),
        ({"box": (4, 3)}, "a line of its box has 12 bytes"),
        ({"strides": [18, 1]}, "a stride is 72 bytes"),
        ({"shape": (0, 20)}, "no dimension may be 0"),
        ({"shape": (3, 4, 5), "strides": [80, 20, 1], "box": (1, 1, 4)}, "it has 3 dimensions"),
        ({"swizzle_mode": 1, "box": (4, 16)}, "more than the 32 of its swizzle mode"),
        ({"fill_nan": True}, "its fill mode is 1 and its elements are u32"),
    ],
)
def test_a_tensor_map_that_no_driver_would_make_is_reported(changed, told):
    x = aligned((10, 20), "u4")
    code = EXPECT.format(size=64) + LOAD.format(rank=2, place="0, 0") + WAIT
    with pytest.raises(PtxError) as caught:
        run(code, map_of(x, **{"box": (4, 4), **changed}), x, np.zeros(1, "u4"))
    assert caught.value.kind == "bad tensor map"
    assert told in caught.value.detail


def test_a_tensor_that_begins_at_an_odd_place_is_reported():
    x = aligned((10, 20), "u4")
    code = EXPECT.format(size=64) + LOAD.format(rank=2, place="0, 0") + WAIT
    with pytest.raises(PtxError, match="bad tensor map"):
        run(code, map_of(x, (4, 4), address=x.ctypes.data + 4), x, np.zeros(1, "u4"))


@pytest.mark.parametrize(
    "changed", [{"element_type": 11}, {"element_type": 8}, {"swizzle_mode": 4}, {"swizzle_mode": 3}]
)
def test_what_is_not_modelled_is_refused(changed):
    x = aligned((10, 20), "u4")
    code = EXPECT.format(size=64) + LOAD.format(rank=2, place="0, 0") + WAIT
    with pytest.raises(PtxError, match="unsupported"):
        run(code, map_of(x, (4, 4), **changed), x, np.zeros(1, "u4"))


@pytest.mark.parametrize(
    ("change", "kind"), [(("[d]", "[d+64]"), "misaligned"), (("[%rd0,", "[%rd0+8,"), "misaligned")]
)
def test_misaligned_operands_are_reported(change, kind):
    x = aligned((10, 20), "u4")
    code = EXPECT.format(size=64) + LOAD.format(rank=2, place="0, 0").replace(*change) + WAIT
    with pytest.raises(PtxError, match=kind):
        run(code, map_of(x, (4, 4)), x, np.zeros(1, "u4"))


@pytest.mark.parametrize("change", [("shape", (11, 20)), ("strides", [24, 1])])
def test_a_map_that_claims_more_than_its_tensor_is_out_of_bounds(change):
    x = aligned((10, 20), "u4")
    code = EXPECT.format(size=64) + LOAD.format(rank=2, place="16, 7") + WAIT
    run(code, map_of(x, (4, 4)), x, np.zeros(1, "u4"))
    with pytest.raises(PtxError, match="out of bounds"):
        run(code, map_of(x, (4, 4), **dict([change])), x, np.zeros(1, "u4"))


@pytest.mark.parametrize(
    "mnemonic",
    [
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster",
        "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes",
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile::gather4.mbarrier::complete_tx::bytes",
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.cta_group::2",
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes",
        "cp.async.bulk.global.shared::cta.bulk_group.cp_mask",
        "mbarrier.arrive.release.gpu.b64",
    ],
)
def test_clusters_and_other_modes_are_refused(mnemonic):
    with pytest.raises(PtxError, match="not modelled"):
        run(f"{mnemonic} [d], [%rd0], [bar];", bytes(SIZE), np.zeros(1, "u4"), np.zeros(1, "u4"))
