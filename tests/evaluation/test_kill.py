"""Killed at any moment, a run goes on to the results of one that was never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("tomli_w")

from foolart.evaluation import evaluate, resume
from foolart.evaluation.scenario import Scenario

CODE = """
import sys
from foolart.evaluation.engine import evaluate
from foolart.evaluation.scenario import Scenario
from pathlib import Path
evaluate(Scenario.load(Path(sys.argv[1])), sys.argv[2], report=False)
"""


def scenario(table, **changes):
    run = {"batch_size": 1}
    return table(attacks=["ddn(steps=20)", "pgd-l2(epsilon=1.0)"], run=run, **changes)


def start_and_kill(toml, folder, after, total):
    """Kill a run of its own process, ``after`` so many seconds of computing."""
    process = subprocess.Popen([sys.executable, "-c", CODE, str(toml), str(folder)])
    try:
        units = folder / "units"
        while not units.is_dir() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(after)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return len(list(units.glob("*.json"))), process.returncode


def contents(folder):
    return [(folder / name).read_bytes() for name in ("summary.json", "per_image.csv")]


@pytest.mark.parametrize(
    "moments", [(0.02, 0.08), pytest.param(None, marks=pytest.mark.slow)], ids=["two", "ten"]
)
def test_kill_and_resume_give_the_results_of_an_uninterrupted_run(table, tmp_path, moments):
    what = scenario(table)
    expected = evaluate(what, tmp_path / "whole", report=False)
    toml = tmp_path / "scenario.toml"
    toml.write_text(Scenario.of(what).to_toml())
    folder = tmp_path / "killed"
    seed = int.from_bytes(os.urandom(4), "little")
    print("seed of the moments:", seed)
    moments = moments or [random.Random(seed).uniform(0, 0.05) for _ in range(10)]
    seen = []
    for after in moments:
        done, code = start_and_kill(toml, folder, after, expected.total)
        seen.append(done)
        if code == 0:
            break
    assert seen == sorted(seen)
    results = resume(folder, report=False)
    assert results.complete
    assert contents(folder) == contents(tmp_path / "whole")
