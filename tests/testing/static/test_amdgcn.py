"""AMD's assembly text: registers, waves, loops and widths."""

import pytest

from lisa_kernels.testing.static.amdgcn import read_amdgcn

TEXT = """
kernel:
	global_load_ushort v9, v[2:3], off
.LBB0_1:                                ; =>This Inner Loop Header: Depth=1
	global_load_dwordx4 v[4:7], v[2:3], off
	buffer_load_dwordx2 v[4:5], v1, s[0:3], 0 offen
	ds_write_b128 v0, v[4:7]
	s_barrier
	ds_read2_b32 v[0:1], v2 offset1:1
	ds_read_u16 v0, v1
	v_mfma_f32_32x32x8_bf16 v[0:15], v[4:5], v[6:7], v[0:15]
	v_mfma_f32_32x32x8_bf16 v[0:15], v[4:5], v[6:7], v[0:15]
	v_exp_f32_e32 v1, v2
	s_cbranch_scc1 .LBB0_1
	global_store_short v[2:3], v9, off
	s_endpgm
; Occupancy: 4
    .group_segment_fixed_size: 1024
    .private_segment_fixed_size: 8
    .sgpr_spill_count: 1
    .vgpr_count:     116
    .vgpr_spill_count: 2
"""


def read(text=TEXT, **changes):
    known = {"kernel": "kernel", "target": "gfx942", "warps": 4, "dynamic_shared_bytes": 0, "toolchain": "t", "dots": 1}
    return read_amdgcn(text, **(known | changes))


def test_resources_are_those_of_the_metadata():
    figures = read()
    assert (figures.registers, figures.spills, figures.stack_bytes, figures.shared_bytes) == (116, 3, 8, 1024)
    assert (figures.threads, figures.warps) == (256, 4)


def test_the_loop_with_matrix_instructions_is_hot():
    hot = read().hot
    assert (hot.is_loop, hot.head, hot.instructions) == (True, ".LBB0_1", 10)
    assert hot.mma == {"v_mfma_f32_32x32x8_bf16": 2}
    assert (hot.special, hot.barriers) == (1, 1)


def test_accesses_have_the_bits_of_one_lane():
    hot = read().hot
    assert hot.global_access == {"buffer_load_dwordx2.64": 1, "global_load_dwordx4.128": 1}
    assert hot.shared_access == {"ds_read2_b32.64": 1, "ds_read_u16.16": 1, "ds_write_b128.128": 1}


MOVED = """
kernel:
	s_branch .LBB0_2
.LBB0_1:
	s_cbranch_scc1 .LBB0_4
.LBB0_2:
	v_add_u32_e32 v1, v2, v3
	s_cbranch_execz .LBB0_1
.LBB0_3:
	global_load_ushort v9, v[2:3], off
	s_branch .LBB0_1
.LBB0_4:
	s_endpgm
    .vgpr_count:     16
"""


def test_a_block_behind_the_branch_back_belongs_to_the_loop():
    """As LLVM lays out a masked load: between label and branch back alone there is none."""
    hot = read(MOVED).hot
    assert hot.is_loop
    assert hot.global_access == {"global_load_ushort.16": 1}


def test_without_a_loop_all_of_it_counts():
    hot = read(TEXT.replace("s_cbranch_scc1 .LBB0_1", "s_nop 0")).hot
    assert not hot.is_loop
    assert {"global_load_ushort.16", "global_store_short.16"} <= set(hot.global_access)


def test_there_is_no_cycle_model():
    hot = read().hot
    assert (hot.ceiling, hot.sim, hot.latency_1block, hot.pipes) == (None, None, None, {})


@pytest.mark.parametrize(
    ("shared", "waves", "limited_by"),
    [(0, 4, "registers"), (60 * 1024, 1, "shared memory"), (65 * 1024, 0, "shared memory")],
)
def test_shared_memory_given_at_launch_limits_the_waves(shared, waves, limited_by):
    figures = read(dynamic_shared_bytes=shared)
    assert (figures.waves_per_simd, figures.limited_by) == (waves, limited_by)


def test_text_without_metadata_is_refused():
    with pytest.raises(ValueError, match=r"no \.vgpr_count"):
        read("s_endpgm")
