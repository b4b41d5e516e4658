"""What a run shows while it runs: a bar in a terminal, a line every 10 s elsewhere, and a JSONL log."""

import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from lisa.errors import named

LINE_EVERY_S = 10.0


class Progress:
    """Counts steps up to ``total``; starts at ``first`` when a run is resumed."""

    def __init__(self, total: int, first: int, *, note: str = ""):
        """``note`` stands beside every figure (for data that allow no claim)."""
        self.total, self.first, self.step = total, first, first
        self.note = f"  ({note})" if note else ""
        self.started = self.shown = time.monotonic()
        self.bar = tqdm(total=total, initial=first, unit="step", dynamic_ncols=True) if sys.stderr.isatty() else None

    def update(self, step: int, loss: float) -> None:
        """Show that ``step`` steps are done."""
        self.step = step
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}{self.note}", refresh=False)
            self.bar.update(step - self.bar.n)
        elif now - self.shown >= LINE_EVERY_S or step == self.total:
            self.shown = now
            rate = (step - self.first) / max(now - self.started, 1e-9)
            print(f"step {step}/{self.total}  loss {loss:.3f}  {rate:.2f} steps/s{self.note}", flush=True)

    def say(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self.bar is not None:
            self.bar.write(line + self.note)
        else:
            print(line + self.note, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


class Log:
    """JSON lines on disk; rows after ``step`` are dropped at the start, as a resumed run writes them again."""

    def __init__(self, path: Path, *, step: int):
        """Open ``path`` for rows beyond ``step``."""
        rows = [row for row in read_log(path) if row["step"] <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside, then renamed: a kill in between leaves the old log.
        beside = path.with_name(path.name + ".new")
        with named(beside):
            beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        beside.replace(path)
        self.path, self.file = path, path.open("a", encoding="utf-8")

    def write(self, row: dict) -> None:
        """Append one row and hand it to the system."""
        with named(self.path):
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        with named(self.path):  # Writes once more what a full disk refused.
            self.file.close()


def read_log(path: Path) -> list[dict]:
    """Return the rows of a log, none if it is missing; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
