"""``python -m lisa_kernels.verify`` and ``python -m lisa_kernels.env`` as commands."""

import json
import subprocess
import sys

import pytest

from lisa_kernels import env, verify
from lisa_kernels.core import native
from lisa_kernels.core.config import BACKENDS
from lisa_kernels.core.registry import select
from lisa_kernels.ops.ctc import reference
from lisa_kernels.testing.rows import FAILED, PASSED, Row
from lisa_kernels.testing.table import details, table

KEYS = {"op", "case", "backend", "dtype", "check", "status", "error", "bound", "source", "message"}


def test_quick_verification_passes_and_its_json_agrees_with_the_last_line(tmp_path, capsys):
    file = tmp_path / "verify.json"
    assert verify.main(["ctc_loss", "--backend", "reference", "--quick", "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    rows = record["rows"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{record['passed']} passed, 0 failed, {record['skipped']} skipped"
    assert record["passed"] == sum(row["status"] == PASSED for row in rows) > 50
    assert all(set(row) == KEYS for row in rows)


def test_a_wrong_kernel_gives_exit_status_1_and_is_named(monkeypatch, capsys):
    right = reference.backward
    monkeypatch.setattr(reference, "backward", lambda *args: right(*args) * 1.001)
    assert verify.main(["ctc", "--backend", "reference", "--quick"]) == 1
    output = capsys.readouterr().out
    assert "grad_logits" in output.partition("Failed\n")[2]
    assert " 0 failed" not in output


def test_every_backend_that_cannot_run_is_skipped_with_its_reason(monkeypatch, capsys):
    monkeypatch.setattr(native, "why_not", lambda: "planted: no compiler")
    assert verify.main(["--quick"]) == 0
    output = capsys.readouterr().out
    assert "ctc_loss on cpu: planted: no compiler" in output
    assert "ctc_loss on cuda: " in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ctcloss"], "verify: op is 'ctcloss'; it takes"),
        (
            ["--backend", "cpp"],
            "verify: backend is 'cpp'; it takes cuda, triton, cpu, reference, interpreted, emulated, host.",
        ),
        (["--backend", "cuda"], "verify: backend is 'cuda', which cannot run on cpu: "),
        (["--target", "sm_80"], "verify: target is 'sm_80'; it goes with --backend emulated alone."),
        (
            ["--backend", "emulated", "--target", "sm_100"],
            "verify: target is 'sm_100'; it takes sm_80, sm_89, sm_90, sm_120.",
        ),
        (["--device", "tpu9"], "verify: device is 'tpu9'; it takes cpu or cuda."),
        (["--device", "meta"], "verify: device is 'meta'; it takes cpu or cuda."),
        (["--device", "cuda:99"], "verify: device is 'cuda:99'; this torch sees"),
        (["--json", "/no/such/folder/x.json"], "a file in a folder that exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_give_one_line_and_exit_status_2(arguments, told, capsys):
    assert verify.main(arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_the_table_keeps_to_120_columns_and_counts_checks():
    name = "a case with a name that goes on and on and on"
    source = "4 + sqrt(16000)/2 fp32 ulps + 1/2 bf16 ulp"
    rows = [
        Row("op", name, "cpu", "float32", "grad_logits", PASSED, 1e-7, 1e-6, source),
        Row("op", name, "cpu", "bfloat16", "grad_logits", FAILED),
    ]
    lines = list(table(rows))
    assert all(len(line) <= 120 for line in lines)
    assert " 1/2 " in lines[-1]
    assert "a case with a name" in "\n".join(details(rows))


def test_infinite_errors_are_valid_json():
    row = Row("op", "case", "cpu", "float32", "output", FAILED, float("inf"), float("nan"))
    assert json.loads(json.dumps(row.to_json(), allow_nan=False))["error"] is None


def test_env_names_every_backend_of_every_op(capsys):
    assert env.main() == 0
    lines = capsys.readouterr().out.splitlines()
    below = lines[lines.index("Ops") + 1 :]
    ops = [line.split()[0] for line in below if not line.startswith("    ")]
    backends = [tuple(line.split()[:2]) for line in below if line.startswith("    ")]
    assert ops == [spec.name for spec in select()]
    assert [name for name, _ in backends] == list(BACKENDS) * len(ops)
    assert {verdict for name, verdict in backends if name == "reference"} == {"available"}


def test_env_prints_although_everything_is_broken(monkeypatch, capsys):
    def broken(*args, **options):
        raise OSError("planted")

    for target in ("shutil.which", "subprocess.run", "torch.cuda.device_count", "importlib.metadata.version"):
        monkeypatch.setattr(target, broken)
    monkeypatch.setattr(native, "build_info", broken)
    monkeypatch.setattr(native, "why_not", broken)
    assert env.main() == 0
    assert capsys.readouterr().out.count("planted") > 5


@pytest.mark.parametrize("module", ["verify", "env"])
def test_the_modules_run_without_pytest_numpy_and_triton(module):
    """A user's machine may have torch alone."""
    blocked = "sys.modules.update(dict.fromkeys(['pytest', 'numpy', 'triton']))"
    arguments = ["--quick", "--backend", "reference"] if module == "verify" else []
    code = (
        f"import sys; {blocked}; import torch; torch.set_num_threads(1); from lisa_kernels import {module};"
        f" sys.exit({module}.main({arguments if module == 'verify' else ''}))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
