"""What the tools watch and compare: op cases on the CPU, specimens and their emulations."""

import json
import math

import pytest
import torch

from bench.gpu import drive
from bench.gpu.specimens import judge_specimen, run_specimen, ulps
from lisa_kernels.core.launch import run_through

CPU = torch.device("cpu")


def test_a_drive_runs_forward_and_backward_of_an_op(tmp_path, capsys):
    path = tmp_path / "rows.json"
    assert drive.main(["ctc_loss:reference", "--device", "cpu", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert len(rows) == 6
    assert {row["subject"] for row in rows} == {"ctc_loss:reference"}


def test_a_drive_of_a_backend_that_refuses_raises():
    with pytest.raises(RuntimeError, match="no backend can run this call"):
        drive.main(["ctc_loss:cuda", "--device", "cpu"])


def test_a_profile_of_the_cpu_is_refused():
    with pytest.raises(ValueError, match="--profile came with --device cpu"):
        drive.main(["ctc_loss:reference", "--device", "cpu", "--profile"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_neighbours_are_one_ulp_apart_also_across_zero(dtype):
    info = torch.finfo(dtype)
    smallest = info.smallest_normal * info.eps
    a = torch.tensor([1.0, -1.0, 0.0, smallest, 2.0, -0.0], dtype=dtype)
    b = torch.tensor([1.0 + info.eps, -1.0 - info.eps, smallest, -smallest, 2.0, 0.0], dtype=dtype)
    assert ulps(a, b).tolist() == [1, 1, 1, 2, 0, 0]


def test_nan_is_near_nan_alone():
    a = torch.tensor([math.nan, math.nan, 1.0])
    b = torch.tensor([math.nan, 1.0, math.nan])
    assert ulps(a, b).tolist() == [0, torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).max]


def test_tensors_of_another_shape_have_no_distance():
    with pytest.raises(ValueError, match="they must be alike"):
        ulps(torch.zeros(2), torch.zeros(3))


def softmax_by_torch(record, args):
    x, out = args[:2]
    out.copy_(x.softmax(-1))


def wrong_softmax(record, args):
    softmax_by_torch(record, args)
    args[1][2, 7] *= 2


@pytest.fixture
def specimens():
    pytest.importorskip("triton", reason="needs triton: pip install 'triton>=3.6,<3.10'")


def test_a_specimen_keeps_strides_and_padding_on_its_way_to_the_device(specimens):
    seen = []
    with run_through(lambda record, args: seen.append(args[0])):
        run_specimen("softmax", CPU)
    (x,) = seen
    assert x.stride() == (1008, 1)
    assert x.as_strided((5, 1008), (1008, 1))[:, 1000:].isnan().all()


def refuse(name, arch):
    raise ValueError(f"target is {arch!r}\nand more")


def emulate(**changed):
    """Return an emulator that computes by torch, with elements changed: ``place -> value``."""

    def outputs(name, arch):
        with run_through(softmax_by_torch):
            found, _, _ = run_specimen(name, CPU)
        out = found["out_ptr"].clone()
        for index, change in changed.items():
            out[0, int(index[1:])] = change(out[0, int(index[1:])])
        return {"out_ptr": out}

    return outputs


def test_a_right_kernel_passes_and_says_why_there_is_no_emulation(specimens):
    with run_through(softmax_by_torch):
        (row,) = judge_specimen("softmax", CPU, arch="sm_103", emulate=refuse)
    assert row["status"] == "passed"
    assert row["emulator_reason"] == "ValueError: target is 'sm_103'"


def test_a_wrong_kernel_fails_with_its_place(specimens):
    with run_through(wrong_softmax):
        (row,) = judge_specimen("softmax", CPU, arch="sm_90", emulate=emulate())
    assert row["status"] == "failed"
    assert row["message"].startswith("softmax.out_ptr[2, 7]")


def test_the_distance_to_the_emulation_is_told_in_ulps(specimens):
    with run_through(softmax_by_torch):
        up = emulate(_0=lambda x: torch.nextafter(x, torch.tensor(1.0)))
        (row,) = judge_specimen("softmax", CPU, arch="sm_90", emulate=up)
    assert (row["status"], row["emulator"], row["max_ulp"]) == ("passed", "compared", 1)
    assert row["equal"] == pytest.approx(1 - 1 / 5000)


def test_a_wrong_emulation_fails_though_the_device_is_right(specimens):
    with run_through(softmax_by_torch):
        (row,) = judge_specimen("softmax", CPU, arch="sm_90", emulate=emulate(_3=lambda x: 2 * x))
    assert row["status"] == "failed"
    assert row["message"].startswith("emulated softmax.out_ptr[0, 3]")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_emulator_of_this_repository_is_what_is_compared(specimens, arch):
    with run_through(softmax_by_torch):
        (row,) = judge_specimen("softmax", CPU, arch=arch)
    assert (row["status"], row["emulator"]) == ("passed", "compared")


def test_a_target_that_is_not_modelled_is_a_reason(specimens):
    with run_through(softmax_by_torch):
        (row,) = judge_specimen("softmax", CPU, arch="gfx1100")
    assert row["emulator"] == "not compared"
    assert "gfx1100" in row["emulator_reason"]
