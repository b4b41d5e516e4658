"""One run of the steps: what was done is kept on disk part by part, so that a second run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.gpu.tools import Finished, Tools
from bench.rows import replace_text

GREEN, RED, SKIPPED, TIMED_OUT = "green", "red", "skipped", "timed out"
# A second run repeats what was skipped or killed: the tool may be there now, the machine less busy.
_KEPT = (GREEN, RED)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a command's output says: a status, sentences for the report, and figures."""

    status: str
    notes: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One part of a step: one command and its reading, or why there was none."""

    step: str
    part: str
    status: str
    notes: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Step:
    """``work`` does the parts; all of them together may take ``budget_s`` seconds."""

    name: str
    budget_s: float
    work: Callable[[Kit], None]


class Kit:
    """Runs the parts of steps, keeps their outcomes in ``folder`` and prints a line for each.

    Args:
        device: What ``bench.gpu.probe`` printed, and ``nvcc`` and ``changes`` beside it.
        repeat: Steps to do again though they are finished.
        say: Prints a line.
    """

    def __init__(
        self,
        tools: Tools,
        folder: pathlib.Path,
        device: dict[str, Any],
        *,
        repeat: Iterable[str] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        self.tools, self.folder, self.device = tools, folder, device
        self.stamp = stamp_of(device)
        self.clocks: dict[str, str] = {}
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        self._say = say
        self._step, self._deadline, self._budget_s = "", 0.0, 0.0
        self._load(set(repeat))

    def work_through(self, step: Step) -> None:
        """Do one step; an error in it is a red part, never the end of the run."""
        self._step, self._budget_s = step.name, step.budget_s
        self._deadline = self.tools.clock() + step.budget_s
        try:
            step.work(self)
        except Exception as error:
            self.note("the step itself", Reading(RED, (f"{type(error).__name__}: {error}",)))

    def do(
        self,
        part: str,
        command: Sequence[str],
        read: Callable[[Finished], Reading],
        *,
        writes: pathlib.Path | None = None,
        shares: int = 1,
    ) -> Outcome:
        """Run a command, read its output and keep the outcome; a finished part is returned as it was.

        Args:
            read: ``(how it ended) -> Reading``; called also for a killed command, whose rows up to then count.
            writes: A file of ``output`` that the command makes; an older one is removed first.
            shares: How many parts have to share what is left of the step's time.
        """
        if (kept := self.outcomes.get((self._step, part))) is not None and kept.status in _KEPT:
            self._say(f"{self._step}: {part}: {kept.status}, kept from the run before")
            return kept
        limit_s = (self._deadline - self.tools.clock()) / shares
        if limit_s < 1:
            return self._end(part, Reading(TIMED_OUT, (f"not begun: the step's {self._budget_s:.0f} s were spent",)), 0)
        if writes:
            writes.unlink(missing_ok=True)
        log = self.folder / "logs" / f"{self._step}-{_slug(part)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._say(f"{self._step}: {part}: at most {limit_s:.0f} s, log in {log}")
        finished = self.tools.run(command, limit_s=limit_s, log=log)
        try:
            reading = read(finished)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            reading = Reading(RED, (f"its output could not be read ({reason}), exit status {finished.status}",))
        if finished.timed_out:
            reading = Reading(TIMED_OUT, (f"killed after {finished.seconds:.0f} s",), reading.rows)
        return self._end(part, reading, finished.seconds)

    def skip(self, part: str, reason: str) -> Outcome:
        """Keep that a part was left out, and why."""
        return self._end(part, Reading(SKIPPED, (reason,)), 0)

    def note(self, part: str, reading: Reading) -> Outcome:
        """Keep what is known without a command."""
        return self._end(part, reading, 0)

    def output(self, name: str) -> pathlib.Path:
        """Return the path of a file that a command of this step is to write."""
        path = self.folder / "output" / f"{self._step}-{_slug(name)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def of(self, step: str) -> list[Outcome]:
        """Return the outcomes of a step so far."""
        return [outcome for outcome in self.outcomes.values() if outcome.step == step]

    def rows(self) -> list[dict[str, Any]]:
        """Return every row of every part, each with the device, the versions and the commit."""
        return [
            {"step": outcome.step, "part": outcome.part, **row, **self.stamp, "clocks": self.clocks}
            for outcome in self.outcomes.values()
            for row in outcome.rows
        ]

    def _end(self, part: str, reading: Reading, seconds: float) -> Outcome:
        outcome = Outcome(self._step, part, reading.status, reading.notes, reading.rows, seconds)
        self.outcomes[self._step, part] = outcome
        kept = dataclasses.asdict(outcome) | {"stamp": self.stamp}
        replace_text(self.folder / "parts" / f"{self._step}-{_slug(part)}.json", json.dumps(kept, indent=1) + "\n")
        replace_text(self.folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows()))
        told = f": {outcome.notes[0]}" if outcome.notes else ""
        self._say(f"{self._step}: {part}: {outcome.status}{told}")
        return outcome

    def _load(self, repeat: set[str]) -> None:
        """Take over finished parts of the same device, versions and commit; all others are removed."""
        for path in sorted((self.folder / "parts").glob("*.json")):
            found = json.loads(path.read_text())
            if found.pop("stamp") == self.stamp and found["status"] in _KEPT and found["step"] not in repeat:
                found |= {"notes": tuple(found["notes"]), "rows": tuple(found["rows"])}
                self.outcomes[found["step"], found["part"]] = Outcome(**found)
            else:
                path.unlink()


def stamp_of(device: dict[str, Any]) -> dict[str, Any]:
    """Return what must be equal for two runs to go on from each other, and what every row carries."""
    names = ("name", "arch", "driver", "cuda", "hip", "torch", "triton", "nvcc", "commit", "changes")
    return {"device" if name == "name" else name: device.get(name) for name in names} | {
        "native_cuda": bool(device.get("native", {}).get("cuda"))
    }


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
