"""Every gate: what it passes, what it fails, and what an exception with a reason lets through."""

import json

import pytest

from lisa_kernels.testing.static.gates import Allowance, judge, read_allowances
from lisa_kernels.testing.static.record import Recorded, take
from tests.testing.static.samples import kernel


def verdict(gate, figures=None, **options):
    """Return the named gate's verdict on one kernel."""
    judged = judge(figures or kernel(), name="matmul_kernel bf16", **options)
    return next(v for v in judged if v.gate == gate)


def allow(gate, limit=None, **where):
    return [Allowance(where.get("kernel", "*"), where.get("target", "*"), gate, "known and wanted", limit)]


def test_a_good_kernel_passes_every_gate_that_has_something_to_compare_with():
    statuses = {v.gate: v.status for v in judge(kernel(), name="m")}
    assert statuses == {
        "fits": "passed", "spills": "passed", "mma": "passed", "width": "passed", "ceiling": "not judged",
        "sim": "not judged",
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"spills": 1}, {"stack_bytes": 8}])
def test_one_spill_or_any_stack_fails(changes):
    assert verdict("spills", kernel(**changes)).status == "failed"


def test_a_spill_with_a_reason_is_allowed_up_to_its_limit():
    found = verdict("spills", kernel(spills=4), allowances=allow("spills", 4))
    assert (found.status, found.reason) == ("allowed", "known and wanted")
    assert verdict("spills", kernel(spills=5), allowances=allow("spills", 4)).status == "failed"


@pytest.mark.parametrize("where", [{"kernel": "other_*"}, {"target": "sm_90"}])
def test_an_exception_for_another_kernel_or_target_does_not_help(where):
    assert verdict("spills", kernel(spills=1), allowances=allow("spills", 9, **where)).status == "failed"


def test_an_exception_may_name_the_kernel_or_the_job():
    for name in ("matmul_kernel", "matmul_kernel bf*"):
        found = verdict("spills", kernel(spills=1), allowances=allow("spills", 9, kernel=name))
        assert found.status == "allowed"


@pytest.mark.parametrize(
    ("target", "mma", "status"),
    [
        ("sm_80", "HMMA", "passed"), ("sm_90", "HGMMA", "passed"), ("sm_90", "HMMA", "failed"),
        ("sm_100", "UTCHMMA", "passed"), ("sm_100", "HGMMA", "failed"), ("sm_120", "QMMA", "passed"),
        ("gfx942", "v_mfma_f32_32x32x8_bf16", "passed"), ("gfx942", "v_wmma_f32_16x16x16_bf16", "failed"),
    ],
)  # fmt: skip
def test_a_dot_must_become_the_target_s_matrix_instruction(target, mma, status):
    assert verdict("mma", kernel(target=target, mma={mma: 4})).status == status


def test_a_dot_without_any_matrix_instruction_fails():
    found = verdict("mma", kernel(mma={}))
    assert found.status == "failed"
    assert "no matrix instruction for 1 dots" in found.text


def test_one_slow_kind_beside_the_right_one_fails():
    assert verdict("mma", kernel(target="sm_90", mma={"HGMMA": 4, "HMMA": 1})).status == "failed"


def test_a_kernel_without_a_dot_needs_no_matrix_instruction():
    assert verdict("mma", kernel(mma={}, dots=0)).status == "passed"


@pytest.mark.parametrize(
    ("accesses", "status"),
    [
        ({"LDG.128": 4}, "passed"), ({"LDG.64": 4}, "passed"), ({"LDG.128": 4, "STG.32": 1}, "failed"),
        ({"global_load_ushort.16": 1}, "failed"), ({}, "passed"),
        ({"LDG.128": 1, "RED.32": 4, "ATOMG.32": 1, "global_atomic_add_f32.32": 1}, "passed"),
    ],
)  # fmt: skip
def test_no_access_of_the_hot_loop_is_below_64_bits_atomics_aside(accesses, status):
    assert verdict("width", kernel(loop={"global_access": accesses})).status == status


def test_64_bits_pass_and_are_named():
    assert "LDG.64 4 below the wanted 128" in verdict("width", kernel(loop={"global_access": {"LDG.64": 4}})).text


def test_narrow_accesses_are_allowed_down_to_the_limit():
    narrow = kernel(loop={"global_access": {"LDG.32": 4}})
    assert verdict("width", narrow, allowances=allow("width", 32)).status == "allowed"
    narrower = kernel(loop={"global_access": {"LDG.16": 4}})
    assert verdict("width", narrower, allowances=allow("width", 32)).status == "failed"


def test_widths_of_a_job_that_only_test_cases_reach_are_not_judged():
    narrow = kernel(loop={"global_access": {"LDG.16": 4}})
    assert verdict("width", narrow, real_size=False).status == "not judged"


@pytest.mark.parametrize("changes", [{"blocks_per_sm": 0}, {"shared_bytes": 164 * 1024}])
def test_a_block_that_does_not_fit_fails(changes):
    assert verdict("fits", kernel(**changes)).status == "failed"


def test_a_wave_that_does_not_fit_fails():
    assert verdict("fits", kernel(target="gfx942", blocks_per_sm=None, waves_per_simd=0)).status == "failed"


@pytest.mark.parametrize(("recorded", "status"), [(0.70, "passed"), (0.82, "passed"), (0.84, "failed")])
def test_three_per_cent_of_the_recorded_ceiling_may_be_lost(recorded, status):
    """0.8 is 2.4 % below 0.82 and 4.8 % below 0.84."""
    assert verdict("ceiling", recorded=Recorded(128, 0, 100, ceiling=recorded)).status == status


def test_a_loop_that_lost_its_matrix_instructions_fails_the_ceiling():
    figures = kernel(loop={"ceiling": None})
    assert verdict("ceiling", figures, recorded=Recorded(128, 0, 100, ceiling=0.8)).status == "failed"


@pytest.mark.parametrize(("sim", "status"), [(0.66, "passed"), (0.68, "failed")])
def test_ten_per_cent_of_the_recorded_sim_may_be_lost(sim, status):
    recorded = Recorded(128, 0, 100, 0.8, sim, (sim - 0.01, sim + 0.01))
    assert verdict("sim", recorded=recorded).status == status


@pytest.mark.parametrize("wide", [(0.5, 0.61), None])
def test_a_range_wider_than_a_tenth_is_not_measured(wide):
    recorded = Recorded(128, 0, 100, 0.8, 0.9, wide)
    assert verdict("sim", recorded=recorded).status == "not judged"
    figures = kernel(loop={"sim_range": (0.5, 0.61)})
    assert verdict("sim", figures, recorded=take(kernel(loop={"sim": 0.9}))).status == "not judged"


@pytest.mark.parametrize(("now", "status"), [(219.0, "passed"), (230.0, "failed")])
def test_a_loop_without_matrix_instructions_may_take_a_tenth_longer(now, status):
    loop = {"ceiling": None, "sim": None, "sim_range": None, "latency_1block": now}
    recorded = Recorded(32, 0, 100, latency_1block=200.0)
    assert verdict("sim", kernel(loop=loop), recorded=recorded).status == status


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"reason": " "}, "has no reason"), ({"limit": None}, "has no limit"), ({"gate": "ceiling"}, "it takes spills"),
    ],
)  # fmt: skip
def test_an_exception_without_reason_or_limit_is_refused(tmp_path, row, message):
    good = {"kernel": "k", "target": "*", "gate": "spills", "reason": "why", "limit": 3}
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps([good]))
    assert read_allowances(path)[0].limit == 3
    path.write_text(json.dumps([good | row]))
    with pytest.raises(ValueError, match=message):
        read_allowances(path)


def test_without_a_file_nothing_is_allowed(tmp_path):
    assert read_allowances(tmp_path / "allowed.json") == ()
