"""Workers of every kind compute what one process computes."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tomli_w")

from foolart.evaluation import evaluate  # noqa: E402


def contents(folder):
    return [(folder / name).read_bytes() for name in ("summary.json", "per_image.csv")]


@pytest.fixture
def what(table):
    attacks = ["ddn(steps=5)", "pgd-l2(epsilon=1.0)"]
    return table(attacks=attacks, variants=["rounded"], compute_batch=3)


@pytest.mark.parametrize(
    ("executor", "transfer"),
    [
        ("local", False),
        ("submitit", False),
        pytest.param("local", True, marks=pytest.mark.slow),
        pytest.param("ray", False, marks=pytest.mark.slow),
    ],
)
def test_workers_equal_one_process(what, digits_files, tmp_path, executor, transfer):
    if executor != "local":
        pytest.importorskip(executor)
    if transfer:
        what["threats"] = ["white-box", "transfer"]
        what["models"].append(f"{digits_files / 'net.pt'}(mean=0.1)")
    evaluate(what, tmp_path / "whole", report=False)
    done = []
    run = {"workers": 2, "executor": executor}
    results = evaluate(
        {**what, "run": run}, tmp_path / "r", lambda k, n, text: done.append(k), report=False
    )
    assert results.complete
    assert done == sorted(done)
    assert done[-1] == results.total
    assert contents(tmp_path / "r") == contents(tmp_path / "whole")
    assert not list((tmp_path / "r" / "units").glob("claims-*"))


def test_objects_stay_in_their_process(what, digits, tmp_path):
    scenario = {**what, "models": [("net", digits.net)], "run": {"workers": 2}}
    with pytest.raises(ValueError, match="is a Python object, which other processes do not have"):
        evaluate(scenario, tmp_path / "r", report=False)


@pytest.mark.parametrize(
    ("executor", "package", "extra"), [("slurm", "submitit", "cluster"), ("ray", "ray", "ray")]
)
def test_a_missing_cluster_engine_is_named(what, tmp_path, monkeypatch, executor, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf'pip install "foolart\[{extra}\]"'):
        evaluate({**what, "run": {"executor": executor, "workers": 2}}, tmp_path / "r")


def test_every_visible_gpu_gets_a_worker(what, digits, monkeypatch):
    from foolart.evaluation import engine, executors
    from foolart.evaluation.scenario import Scenario

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    scenario = Scenario.of({**what, "device": "cuda"})
    assert engine._on_every_gpu(scenario).run.workers == 3
    assert engine._on_every_gpu(scenario.with_(workers=2)).run.workers == 2
    assert engine._on_every_gpu(scenario.with_(device="cuda:1")).run.workers == 0
    assert engine._on_every_gpu(Scenario.of(what)).run.workers == 0
    here = scenario.with_(models=[("net", digits.net)])
    assert engine._on_every_gpu(here).run.workers == 0
    assert executors._devices("cuda", 4) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
