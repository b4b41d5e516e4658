"""The way in: the real refusal of this machine, and the messages for each way to have no GPU."""

import json
import subprocess
import sys

import pytest
import torch

from bench.gpu.tools import ROOT
from tests.bench.gpu.stand_in import says

CPU_BUILD = {"gpu": False, "torch": "2.13.0+cpu", "cuda": None, "hip": None}


def test_a_machine_without_a_gpu_is_refused_in_one_line_with_exit_code_2():
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "gpu"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"gpu: torch {torch.__version__}")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        (says(json.dumps(CPU_BUILD)), "torch 2.13.0+cpu is a CPU build; it takes"),
        (says(json.dumps(CPU_BUILD | {"cuda": "13.0"})), "(CUDA 13.0) sees no GPU; check that one is listed"),
        (says(json.dumps(CPU_BUILD | {"hip": "7.1"})), "(ROCm 7.1) sees no GPU"),
        (says("ModuleNotFoundError: No module named 'torch'", 1), "No module named 'torch'); `make setup`"),
        (says("Segmentation fault", -11), "failed (Segmentation fault)"),
    ],
)
def test_each_way_to_have_no_gpu_is_named_and_nothing_is_written(kit, capsys, probe, told):
    kit.machine.replies = [("bench.gpu.probe", probe)]
    assert kit() == 2
    error = capsys.readouterr().err
    assert error.startswith("gpu: ")
    assert told in error
    assert not list(kit.root.iterdir())


def test_a_driver_that_hangs_is_named(kit, capsys):
    kit.machine.slow = [("bench.gpu.probe", 1000.0)]
    assert kit() == 2
    assert "the driver hangs" in capsys.readouterr().err


def test_warnings_before_the_probe_s_answer_do_not_hide_it(kit):
    kit.machine.replies = [("bench.gpu.probe", says("a warning of some library\n" + json.dumps(kit.machine.probe)))]
    assert kit() == 0


def test_the_probe_of_this_machine_answers_in_json():
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu.probe"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["torch"] == torch.__version__
