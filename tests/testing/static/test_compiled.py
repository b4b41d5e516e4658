"""Real compiles: the specimens pass their gates, and each planted fault fails the gate that is there for it."""

import functools
import importlib.util
import pathlib

import pytest
import torch

from bench.static import Options, run
from lisa_kernels.testing.static.gates import judge
from lisa_kernels.testing.static.record import read_record, record_path, write_record
from lisa_kernels.testing.static.triton_kernel import analyze_kernel, toolchain_name

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'triton>=3.6,<3.10'"
)
RECORDED = pathlib.Path(__file__).parent / "recorded"
LAUNCHES = "tests.testing.static.launches"
# Two targets in the quick set: the oldest, and the first with asynchronous products.
QUICK_TARGETS = ("sm_80", "sm_90")
OTHER_TARGETS = ("sm_100", "sm_120", "gfx942")


@functools.cache
def table(function, target, recorded=RECORDED):
    """Return (exit code, printed text) of ``bench static --from``."""
    lines = []
    options = Options(targets=(target,), source=f"{LAUNCHES}:{function}", recorded=recorded, cache=None, workers=1)
    return run(options, lines.append), "\n".join(lines)


def needs_record():
    if not record_path(RECORDED, toolchain_name()).is_file():
        pytest.skip(f"{toolchain_name()} has no recorded figures: python -m bench static --from {LAUNCHES}:specimens "
                    f"--recorded {RECORDED} --record")  # fmt: skip


@pytest.mark.parametrize("target", QUICK_TARGETS)
def test_specimens_pass_every_gate_on_the_quick_targets(target):
    needs_record()
    code, text = table("specimens", target)
    assert code == 0, text
    assert "not recorded" not in text
    assert "are not in the record" not in text


@pytest.mark.prove
@pytest.mark.parametrize("target", OTHER_TARGETS)
@pytest.mark.parametrize("function", ["specimens", "small_specimens"])
def test_specimens_pass_every_gate_on_all_targets(function, target):
    needs_record()
    code, text = table(function, target)
    assert code == 0, text


def test_figures_are_recorded_for_every_specimen_and_target():
    needs_record()
    record = read_record(RECORDED, toolchain_name())
    for function in ("specimens", "small_specimens"):
        figures = record[f"{LAUNCHES}:{function}"]
        assert {target: len(jobs) for target, jobs in figures.items()} == dict.fromkeys(
            (*QUICK_TARGETS, *OTHER_TARGETS), 4
        )


@pytest.mark.parametrize(
    ("function", "target", "failure"),
    [
        ("spilling", "sm_90", "spills: "),
        ("ieee_dot", "sm_90", "mma: no matrix instruction for 1 dots"),
        ("spilling", "sm_90", "mma: HMMA for 1 dots; sm_90 should have HGMMA"),
        ("misaligned_copy", "sm_80", "width: LDG.16 8, STG.16 8"),
        ("misaligned_copy", "gfx942", "width: global_load_ushort.16"),
        ("too_much_shared_memory", "sm_80", "fits: 196608 bytes of shared memory; a block on sm_80 has 166912"),
        ("broken", "sm_80", "no figures: CompilationError: at 3:23: arange's range must be a power of 2"),
    ],
)
def test_a_planted_fault_fails_its_gate(function, target, failure):
    code, text = table(function, target)
    assert code == 1
    assert failure in text.partition("\nFailed\n")[2]


def test_the_kernel_without_the_fault_passes():
    code, text = table("aligned_copy", "sm_80")
    assert code == 0
    assert "LDG.128" in text


def test_a_recorded_ceiling_that_was_five_per_cent_higher_fails(tmp_path):
    from tests.testing.static.launches import SPECIMENS

    matmul = SPECIMENS["matmul"]
    args, tile = matmul.make_args(0), matmul.large_tile
    figures = analyze_kernel(
        matmul.kernel, (1,), *args, target="sm_80", constexprs=tile.constexprs(), num_warps=8, num_stages=3
    )
    write_record(tmp_path, figures.toolchain, [("op", "sm_80", "job", figures)])
    path = record_path(tmp_path, figures.toolchain)
    same = read_record(tmp_path, figures.toolchain)["op"]["sm_80"]["job"]
    assert all(verdict.status == "passed" for verdict in judge(figures, name="job", recorded=same))
    path.write_text(path.read_text().replace(str(figures.hot.ceiling), str(figures.hot.ceiling * 1.05)))
    raised = read_record(tmp_path, figures.toolchain)["op"]["sm_80"]["job"]
    failed = [verdict.gate for verdict in judge(figures, name="job", recorded=raised) if verdict.status == "failed"]
    assert failed == ["ceiling"]


def test_without_a_record_the_command_passes_and_says_how_to_make_one(tmp_path):
    code, text = table("aligned_copy", "sm_80", tmp_path)
    assert code == 0
    assert f"no record for {toolchain_name()}" in text
    assert "python -m bench static --record" in text


@pytest.mark.parametrize("target", ["sm_80", "gfx942"])
def test_anybody_s_kernel_is_analysed_in_one_call(target):
    from tests.testing.static.launches import copy_kernel

    x = torch.empty(4096, dtype=torch.float32)
    told = str(analyze_kernel(copy_kernel, (4,), x, x, 4096, target=target, constexprs={"BLOCK": 1024}))
    assert told.startswith(f"copy_kernel, {target}, {toolchain_name()}: static figures of compiled code")
    assert ("LDG.128" if target == "sm_80" else "global_load_dwordx4.128") in told


@pytest.mark.prove
@pytest.mark.parametrize("target", ["sm_90", "sm_100"])
def test_a_specialised_kernel_multiplies_and_moves_as_much_as_the_plain_one(target):
    """Its loops lie in several partitions, behind a jump table on sm_100: a lost one would show as a lower load."""
    from tests.testing.static.launches import descriptor_matmul_kernel

    x = torch.empty(1024, 1024, dtype=torch.bfloat16, device="meta")
    sizes = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64}
    plain, specialised = (
        analyze_kernel(
            descriptor_matmul_kernel, (8, 8), x, x, x, 1024, 1024, 1024,
            target=target, constexprs=sizes | {"SPECIALISED": flag}, num_stages=3,
        )
        for flag in (False, True)
    )  # fmt: skip
    assert specialised.threads > plain.threads
    assert plain.bulk_copies > 0
    for pipe in ("tensor", "l2", "shared"):
        assert specialised.hot.pipes[pipe] == plain.hot.pipes[pipe]


def test_analyse_kernel_names_an_unknown_target():
    from tests.testing.static.launches import copy_kernel

    x = torch.empty(16)
    with pytest.raises(ValueError, match="target is 'sm_99'; it takes sm_80"):
        analyze_kernel(copy_kernel, (1,), x, x, 16, target="sm_99", constexprs={"BLOCK": 16})


@pytest.mark.parametrize("warps", [4, 8])
def test_figures_do_not_change_from_run_to_run(warps):
    from tests.testing.static.launches import copy_kernel

    x = torch.empty(4096, dtype=torch.float16)
    first, second = (
        analyze_kernel(copy_kernel, (4,), x, x, 4096, target="sm_90", constexprs={"BLOCK": 2048}, num_warps=warps)
        for _ in range(2)
    )
    assert first == second
