"""A stand-in machine, and the command run on it in a temporary folder."""

import json

import pytest

from bench.gpu.command import run
from tests.bench.gpu.stand_in import DEVICE, StandIn


class Runner:
    """Runs ``python -m bench gpu`` on a stand-in and looks at what it wrote."""

    def __init__(self, folder, machine):
        self.root, self.machine, self.said = folder, machine, []

    def __call__(self, **options):
        return run(folder=self.root, tools=self.machine, say=self.said.append, **options)

    @property
    def folder(self):
        (found,) = self.root.iterdir()
        assert found.name.startswith(DEVICE.lower().replace(" ", "-"))
        return found

    @property
    def report(self):
        return (self.folder / "report.md").read_text()

    @property
    def rows(self):
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text().splitlines()]

    def statuses(self, step):
        parts = [json.loads(path.read_text()) for path in (self.folder / "parts").glob("*.json")]
        return {part["part"]: part["status"] for part in parts if part["step"] == step}

    def notes(self, step, part):
        parts = [json.loads(path.read_text()) for path in (self.folder / "parts").glob("*.json")]
        (found,) = [found for found in parts if (found["step"], found["part"]) == (step, part)]
        return "; ".join(found["notes"])


@pytest.fixture
def machine():
    return StandIn()


@pytest.fixture
def kit(tmp_path, machine):
    return Runner(tmp_path, machine)
