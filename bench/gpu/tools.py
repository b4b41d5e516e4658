"""The door to the machine: programs in PATH, commands under a time limit, the date."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Protocol

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        status: Exit status; negative for a signal.
        output: What it printed, both streams together.
        timed_out: Whether it was killed at its limit.
    """

    status: int
    output: str
    seconds: float
    timed_out: bool = False


class Tools(Protocol):
    """What the steps need of a machine."""

    def find(self, name: str) -> str | None:
        """Return the path of a program, or None where it is not in PATH."""

    def run(self, command: Sequence[str], *, limit_s: float, log: pathlib.Path | None = None) -> Finished:
        """Run a command in the repository's root and return how it ended; ``log`` keeps what it prints."""

    def today(self) -> str:
        """Return the date, ``YYYY-MM-DD``."""

    def clock(self) -> float:
        """Return seconds of a steady clock."""


class LocalTools:
    """This machine."""

    def find(self, name: str) -> str | None:
        return shutil.which(name)

    def run(self, command: Sequence[str], *, limit_s: float, log: pathlib.Path | None = None) -> Finished:
        started = self.clock()
        with log.open("w+b") if log else tempfile.TemporaryFile() as file:
            try:
                # A session of its own: compilers and profilers that the command starts are killed with it.
                process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
                )
            except OSError as error:
                return Finished(127, str(error), 0.0)
            timed_out = False
            try:
                process.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                # Also after Ctrl-C: a command left behind would disturb the timings of the next run.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            file.seek(0)
            output = file.read().decode(errors="replace")
        return Finished(process.returncode, output, self.clock() - started, timed_out)

    def today(self) -> str:
        return datetime.date.today().isoformat()

    def clock(self) -> float:
        return time.monotonic()
