"""``python -m tests.mutation [--out FILE] [--only PART] [--kernel NAME]``: try all mutants, print the report.

Exits with 1 where fewer than 95 % of the barrier, wait and mask mutants that change something were caught.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

from tests.mutation.report import is_enough, report
from tests.mutation.run import SUBJECTS, try_part
from tests.mutation.trial import Outcome


def main() -> int:
    """Run all parts, each in a process of its own, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--only", choices=SUBJECTS, help="one part")
    parser.add_argument("--kernel", help="one kernel")
    parser.add_argument("--rows", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows:
        rows = [dataclasses.asdict(row) for row in try_part(arguments.only, arguments.kernel)]
        arguments.rows.write_text(json.dumps(rows))
        return 0
    outcomes = []
    for part in [arguments.only] if arguments.only else SUBJECTS:
        outcomes += _in_a_process(part, arguments.kernel)
    text = "\n".join(report(outcomes)) + "\n"
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)
    return 0 if is_enough(outcomes) else 1


def _in_a_process(part: str, kernel: str | None) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder) / "rows.json"
        command = ["env", f"TRITON_INTERPRET={int(part == 'source')}", sys.executable, "-m", "tests.mutation"]
        command += ["--only", part, "--rows", str(rows)] + (["--kernel", kernel] if kernel else [])
        subprocess.run(command, check=True)
        return [Outcome(**row) for row in json.loads(rows.read_text())]


if __name__ == "__main__":
    sys.exit(main())
