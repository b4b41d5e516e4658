"""Wrong numbers give no figures."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import lisa_kernels
from bench import gate, machine, peers, providers
from bench.ops import ctc as ctc_peers
from bench.rows import read_json
from bench.run import Options, run
from lisa_kernels.core import registry
from lisa_kernels.core.spec import Case
from lisa_kernels.testing.inputs import make_inputs
from tests.bench.sample import make_provider

_CPU = torch.device("cpu")
_TINY = Case("tiny", {"T": 12, "N": 2, "C": 9, "S": 3}, {}, "full_lengths")


def _spec(**changes):
    (spec,) = registry.select(("ctc_loss",))
    return dataclasses.replace(spec, bench=(_TINY,), **changes)


def _wrong_loss(**kwargs):
    return lisa_kernels.ctc_loss(**kwargs) * 1.001


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.001


def _wrong_gradient(**kwargs):
    return _WrongGradient.apply(lisa_kernels.ctc_loss(**kwargs))


@pytest.fixture
def serve(monkeypatch):
    """Let the registry hold one changed spec of CTC."""

    def install(spec):
        monkeypatch.setattr(registry, "select", lambda names=(): (spec,))
        monkeypatch.setattr(peers, "load", lambda spec: ctc_peers)
        monkeypatch.setattr(machine, "fix_allocator", lambda: "allocator: left alone")

    return install


@pytest.mark.parametrize(("function", "check"), [(_wrong_loss, "output"), (_wrong_gradient, "grad_logits")])
def test_a_wrong_function_is_not_timed(serve, capsys, tmp_path, function, check):
    spec = _spec(function=function)
    serve(spec)
    out = tmp_path / "out.json"
    assert run(Options(cases=("tiny",), rounds=2, quick=True, json=out)) == 1
    rows = read_json(out)
    assert rows
    assert all(row.status == gate.RED and row.median_ms is None and check in row.reason for row in rows)
    assert "not timed: verification failed" in capsys.readouterr().out


def test_a_right_function_passes(serve):
    serve(_spec())
    assert gate.verify(_spec(), _TINY, torch.float32, _CPU, ("cpu", "reference")) == []


def test_every_cut_down_case_has_a_path_and_keeps_classes_and_labels():
    (spec,) = registry.select(("ctc_loss",))
    for case in spec.bench:
        small = ctc_peers.cut_down(case)
        assert (small["C"], small["S"]) == (case["C"], case["S"])
        assert small["T"] * small["N"] <= case["T"] * case["N"] / 2
        kwargs = make_inputs(spec, small, torch.float32)
        assert torch.isfinite(spec.function(**kwargs))


def test_a_peer_that_computes_something_else_is_not_timed():
    mine = make_provider("lisa cpu", lambda: torch.tensor(10.0), backend="cpu")
    near = make_provider("near", lambda: torch.tensor(10.01))
    far = make_provider("far", lambda: torch.tensor(11.0))
    strange = make_provider("strange", lambda: torch.tensor(float("nan")))
    limit = make_provider(providers.COPY)
    same, different = gate.split_different([mine, near, far, strange, limit], "cpu")
    assert [provider.name for provider in same] == ["lisa cpu", "near", providers.COPY]
    assert [(absent.name, absent.status) for absent in different] == [
        ("far", gate.DIFFERENT),
        ("strange", gate.DIFFERENT),
    ]


def test_a_peer_that_cannot_run_is_a_reason(serve, monkeypatch):
    def refuse(kwargs):
        raise peers.UnavailableError("needs a licence\nand more")

    def break_(kwargs):
        raise KeyError("typo")

    def lacks_dtype(kwargs):
        raise NotImplementedError('"loss" not implemented for BFloat16')

    made_up = {
        "a": peers.Peer(refuse),
        "b": peers.Peer(break_),
        "c": peers.Peer(lacks_dtype),
        "d": peers.Peer(break_, slow_start=True),
    }
    monkeypatch.setitem(ctc_peers.PEERS, "ctc_loss", made_up)
    spec = _spec()
    serve(spec)
    kwargs = providers.make_case_inputs(spec, _TINY, torch.float32, _CPU)
    found, absent = providers.build(spec, _TINY, kwargs, names=("a", "b", "c", "d"), quick=True)
    assert not found
    assert [(a.status, a.reason) for a in absent] == [
        ("unavailable", "needs a licence"),
        ("error", "KeyError: 'typo'"),
        ("unavailable", '"loss" not implemented for BFloat16'),
        ("unavailable", "left out by --quick: its first call takes seconds"),
    ]
