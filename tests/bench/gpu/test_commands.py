"""The commands that the kit runs exist and take these options; what they write can be read."""

import json
import shlex

import pytest

import bench.__main__
from bench.gpu import drive, specimens
from bench.gpu.command import run
from bench.gpu.tools import Finished, LocalTools
from lisa_kernels import verify
from tests.bench.gpu.stand_in import PROBE

PARSERS = {
    "lisa_kernels.verify": verify._parser,
    "bench": bench.__main__._parser,
    "bench.gpu.drive": drive._parser,
    "bench.gpu.specimens": specimens._parser,
}


def test_every_module_takes_the_options_it_is_given(kit):
    del kit.machine.programs["ncu"]
    kit()
    parsed = set()
    for command in kit.machine.ran:
        words = shlex.split(command)
        module = words[words.index("-m") + 1] if "-m" in words else ""
        if module in PARSERS:
            PARSERS[module]().parse_args(words[words.index("-m") + 2 :])
            parsed.add(module)
    assert parsed == PARSERS.keys()


class OnCpu(LocalTools):
    """Runs the real commands with the CPU in the GPU's place, and no tool of NVIDIA's."""

    def find(self, name):
        return None

    def run(self, command, *, limit_s, log=None):
        if "bench.gpu.probe" in command:
            ops = {"ctc_loss": {"cuda": "left out here", "triton": "left out here", "reference": None}}
            return Finished(0, json.dumps(PROBE | {"ops": ops, "specimens": []}), 0.0)
        command = ["cpu" if word == "cuda" else word for word in command]
        if "run" in command:
            command += ["--quick", "--case", "short characters", "--rounds", "1"]
        return super().run(command, limit_s=limit_s, log=log)


@pytest.mark.prove
def test_real_commands_are_read_and_a_cpu_s_times_are_never_shown_as_a_gpu_s(tmp_path):
    said = []
    assert run(folder=tmp_path, tools=OnCpu(), say=said.append) == 0, "\n".join(said)
    (folder,) = tmp_path.iterdir()
    report = (folder / "report.md").read_text()
    assert "| ctc_loss | reference | float32 | green |" in report
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert {"tests", "verify", "bench"} <= {row["step"] for row in rows}
    assert " ms" not in report.partition("## Fast")[2].partition("\n## ")[0]
