"""Commands on this machine: their output, their limit, and what they leave behind."""

import pathlib
import signal
import subprocess
import sys
import time

from bench.gpu.tools import ROOT, LocalTools


def test_both_streams_and_the_status_come_back_and_are_logged(tmp_path):
    log = tmp_path / "log"
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    done = LocalTools().run([sys.executable, "-c", code], limit_s=30, log=log)
    assert (done.status, done.output, done.timed_out) == (3, "out\nerr\n", False)
    assert log.read_text() == done.output


def test_a_command_over_its_limit_dies_with_its_children_and_its_output_is_kept(tmp_path):
    pid = tmp_path / "pid"
    command = ["sh", "-c", f"echo begun; sleep 60 & echo $! > {pid}; wait"]
    start = time.monotonic()
    done = LocalTools().run(command, limit_s=1)
    assert done.timed_out
    assert done.output == "begun\n"
    assert time.monotonic() - start < 30
    assert _is_gone(int(pid.read_text()))


def test_a_child_left_behind_is_killed(tmp_path):
    pid = tmp_path / "pid"
    assert LocalTools().run(["sh", "-c", f"sleep 60 & echo $! > {pid}"], limit_s=30).status == 0
    assert _is_gone(int(pid.read_text()))


def test_a_missing_program_is_a_status_and_a_reason():
    done = LocalTools().run(["no-such-program"], limit_s=1)
    assert done.status == 127
    assert "no-such-program" in done.output
    assert LocalTools().find("no-such-program") is None


def test_a_closed_terminal_ends_the_command_that_runs(tmp_path):
    """An orphan on the GPU would disturb the timings of the next run."""
    pid = tmp_path / "pid"
    code = (
        "from bench.gpu.command import interrupt_on_hangup; from bench.gpu.tools import LocalTools;"
        f"interrupt_on_hangup(); LocalTools().run(['sh', '-c', 'echo $$ > {pid}; sleep 60'], limit_s=60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) != 0
    assert _is_gone(int(pid.read_text()))


def _is_gone(pid):
    """Whether a process has ended; one that waits for its parent to notice counts as ended."""
    for _ in range(100):
        status = pathlib.Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
