"""What is read off PTX, TTIR and TTGIR."""

from lisa_kernels.testing.static import compiler_text

TTGIR = """
module attributes {"ttg.num-warps" = 8 : i32, "ttg.total-num-warps" = 12 : i32} {
  %0 = scf.for %i = %a to %b step %c iter_args(%acc = %z) -> (tensor<128x256xf32>) {
    %s = ttg.memdesc_index %q : !ttg.memdesc<128x64xbf16, #shared, #smem, mutable>
    ttng.async_tma_copy_global_to_local %d[%x, %y] %s, %m, %p : !tt.tensordesc<128x64xbf16>, !ttg.memdesc<1xi64, #b> -> !ttg.memdesc<128x64xbf16, #shared, #smem, mutable>
    ttng.async_tma_copy_global_to_local %e[%x, %y] %t, %m, %p : !tt.tensordesc<64x256xbf16>, !ttg.memdesc<1xi64, #b> -> !ttg.memdesc<64x256xbf16, #shared, #smem, mutable>
    %r = ttng.warp_group_dot %s, %t, %acc : !ttg.memdesc<128x64xbf16, #shared, #smem> * !ttg.memdesc<64x256xbf16, #shared1, #smem> -> tensor<128x256xf32, #mma>
    %f = scf.if %g -> (i32) {
      scf.yield %h : i32
    }
    scf.yield %r : tensor<128x256xf32>
  }
"""  # noqa: E501


def test_bulk_bytes_are_those_of_the_loop_over_its_products():
    assert compiler_text.bulk_bytes_per_product(TTGIR) == (128 * 64 + 64 * 256) * 2 / (128 * 64 * 256)


def test_a_loop_without_bulk_copies_has_none():
    text = "\n".join(line for line in TTGIR.splitlines() if "async_tma" not in line)
    assert compiler_text.bulk_bytes_per_product(text) == 0
    assert compiler_text.bulk_bytes_per_product("") == 0


def test_copies_of_other_warps_count_in_a_specialised_kernel():
    """The copies in a loop of their own; without specialisation such a loop runs before or after, not beside."""
    lines = TTGIR.splitlines()
    copies = [line for line in lines if "async_tma" in line]
    loader = ["  scf.for %i = %a to %b step %c  : i32 {", *copies, "  }"]
    consumer = [line for line in lines if "async_tma" not in line]
    text = "\n".join([*loader, *consumer])
    assert compiler_text.bulk_bytes_per_product(text) == 0
    specialised = compiler_text.bulk_bytes_per_product(text + "\n  ttg.warp_specialize()")
    assert specialised == compiler_text.bulk_bytes_per_product(TTGIR)


def test_a_specialised_kernel_has_more_warps_than_it_was_asked_for():
    assert compiler_text.total_warps(TTGIR, 8) == 12
    assert compiler_text.total_warps("module {}", 8) == 8


def test_a_tcgen05_descriptor_holds_the_shape():
    """M/16 from bit 24, N/8 from bit 17: 0x8400010 is M = 128, N = 256."""
    call = "tcgen05.mma.cta_group::1.kind::f16 [ %r1 + 0 ], %rd1, %rd2, {};"
    direct = call.format(hex(8 << 24 | 32 << 17))
    assert compiler_text.tcgen05_shape(direct) == (128, 256.0, 16)
    moved = f"mov.b32 %r9, {4 << 24 | 8 << 17};\n" + call.format("%r9")
    assert compiler_text.tcgen05_shape(moved) == (64, 64.0, 16)
    assert compiler_text.tcgen05_shape(direct.replace("kind::f16", "kind::f8f6f4"))[2] == 32
    assert compiler_text.tcgen05_shape("mma.sync") is None


def test_products_of_several_widths_are_averaged():
    call = "tcgen05.mma.cta_group::1.kind::f16 [ %r1 + 0 ], %rd1, %rd2, {};\n"
    text = "".join(call.format(hex(8 << 24 | columns // 8 << 17)) for columns in (64, 128))
    assert compiler_text.tcgen05_shape(text) == (128, 96.0, 16)


def test_dots_are_counted_scaled_ones_too():
    text = "%1 = tt.dot %a, %b, %c\n%2 = tt.dot_scaled %a, %b\n%3 = tt.dotty"
    assert compiler_text.count_dots(text) == 2
