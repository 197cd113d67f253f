from __future__ import annotations

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

from foolart.evaluation.reporting.contents import Contents, Cost
from foolart.evaluation.reporting.scores import FILE, complete, stored
from foolart.evaluation.results import Results, Timing
from foolart.evaluation.scenario import Scenario

from ..synthetic import record, records

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
from foolart.evaluation.reporting.report import changes, report


@pytest.fixture
def folder(contents, tmp_path):
    return shutil.copytree(contents.folder, tmp_path / "run")


@pytest.fixture
def small(contents, folder):
    """A part of the run, for what does not need all of it."""
    rows = [row for row in contents.records if (row.attack, row.model) == ("bp", "net")]
    rows = [row for row in rows if row.threat == "white-box" and not row.defence]
    return Contents(rows, folder=folder, title="small")


def test_a_report_is_five_files_from_one_summary(small, folder):
    path = report(small)
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(small.summary.as_json()))
    assert "| bp | Q_λ | 100" in (folder / "summary.md").read_text(encoding="utf-8")
    assert r"\begin{tabular}" in (folder / "summary.tex").read_text(encoding="utf-8")
    assert (folder / "operating_characteristic.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_repeats_byte_by_byte(small, folder):
    def content():
        report(small)
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}

    assert content() == content()


def test_results_become_contents(tmp_path):
    rows = [*records([0.1, 0.2], seed=0), *records([0.1, 0.2], seed=1)]
    keys = (rows[0].comparison, rows[2].comparison)
    results = Results(
        folder=tmp_path,
        scenario=Scenario(attacks=["bp"], budgets=[0.5], name="two seeds"),
        requested=keys,
        records=tuple(rows),
        curves=(),
        timings=(Timing(keys[0], 2, 3.0, 100), Timing(keys[1], 2, 1.0, 200)),
        errors={},
        traces=(),
        environment={"command": "foolart evaluate", "cores": 2},
        done=3,
        total=4,
    )
    contents = Contents.of(results)
    assert contents.title == "two seeds"
    assert contents.command == "foolart evaluate"
    assert contents.environment == {"cores": 2}
    assert contents.progress == (3, 4)
    assert list(contents.costs.values()) == [Cost(1.0, 200)]
    assert list(contents.summary.rows[0].p_upp) == ["0.5"]
    assert 'name = "two seeds"' in contents.scenario


def test_scores_are_computed_once_and_kept(small, folder, monkeypatch):
    scores = complete(folder, small.records, ["psnr"])
    digital = [row for row in small.records if row.variant != "raw" and row.correct]
    assert scores.keys() == {(row.comparison, row.image) for row in digital}
    image = pytest.importorskip("PIL.Image")
    row = digital[0]
    pair = [
        np.asarray(image.open(folder / name)).astype(float) for name in (row.original, row.file)
    ]
    expected = 10 * math.log10(255**2 / np.square(pair[0] - pair[1]).mean())
    assert scores[row.comparison, row.image] == {"psnr": pytest.approx(expected)}
    assert stored(folder, small.records) == scores

    def unexpected(*_):
        raise AssertionError("scored again")

    monkeypatch.setattr("foolart.evaluation.reporting.scores.scores", unexpected)
    assert complete(folder, small.records, ["psnr"]) == scores
    with pytest.raises(AssertionError, match="scored again"):
        complete(folder, small.records, ["psnr", "wpsnr"])
    moved = [dataclasses.replace(row, distance=row.distance + 1) for row in small.records]
    assert stored(folder, moved) == {}


def test_a_transferred_picture_has_its_sources_score(folder, small):
    own = next(row for row in small.records if row.variant == "rounded" and row.correct)
    moved = dataclasses.replace(own, model="other", source="net", threat="transfer")
    scores = complete(folder, [own, moved], ["psnr"])
    assert len(scores) == 2
    assert len((folder / FILE).read_text().splitlines()) == 2


def test_a_damaged_score_file_is_made_anew(folder, small):
    scores = complete(folder, small.records, ["psnr"])
    (folder / FILE).write_text("original,file,distance,psnr\nx,y,z,not a number\n")
    assert stored(folder, small.records) == {}
    assert complete(folder, small.records, ["psnr"]) == scores


def test_scores_enter_the_report(small, folder):
    report(small, perception=["psnr", "wpsnr"])
    assert "PSNR" in (folder / "summary.md").read_text(encoding="utf-8")
    row = json.loads((folder / "summary.json").read_text())["rows"][0]
    assert row["perception"]["wpsnr"]["count"] == 5


def test_two_runs_are_named_after_their_folders(tmp_path):
    rows = records([0.1, 0.2])
    runs = [Contents(rows, folder=tmp_path / name) for name in ("monday", "tuesday")]
    assert changes(*runs).names == ("monday", "tuesday")
    assert changes(Contents(rows), Contents(rows)).names == ("A", "B")
    other = Contents(rows, folder=tmp_path / "old" / "monday")
    assert changes(other, runs[0]).names == (str(other.folder), str(runs[0].folder))


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scenario\.toml"):
        report(tmp_path)
    with pytest.raises(ValueError, match="contents with a folder"):
        report(Contents([record()]))


@pytest.fixture
def command(monkeypatch):
    """``foolart report``, on contents that stand in for results folders by their paths."""
    typer = pytest.importorskip("typer")
    testing = pytest.importorskip("typer.testing")
    from foolart.evaluation.reporting import command as module
    from foolart.evaluation.reporting import report as reporting

    runs = {}
    for where in (module, reporting):
        monkeypatch.setattr(where, "contents_of", lambda run: runs[str(run)])
    app = typer.Typer()
    app.command()(module.report_command)

    def run(*arguments, **contents):
        runs.update(contents)
        return testing.CliRunner().invoke(app, list(arguments))

    return run


def test_the_command_writes_and_prints(command, small, folder):
    found = command("run", run=small)
    assert found.exit_code == 0, found.output
    assert f"wrote {folder / 'report.html'}" in found.output.replace("\n", "")
    found = command("run", "--json", run=small)
    assert json.loads(found.stdout) == json.loads(json.dumps(small.summary.as_json()))


def test_the_command_compares_two(command, tmp_path):
    runs = {"a": Contents(records([0.1] * 9)), "b": Contents(records([0.05] * 9))}
    found = command("a", "b", "--out", str(tmp_path / "diff.md"), **runs)
    assert found.exit_code == 0, found.output
    assert "closer" in found.output
    assert (tmp_path / "diff.md").read_text(encoding="utf-8").startswith("# B compared with A")
    plain = json.loads(command("a", "b", "--json", **runs).stdout)
    assert plain["lines"][0]["verdict"] == "closer"


@pytest.mark.parametrize("arguments", [("a", "b", "c"), ("a", "--out", "x.md")])
def test_the_command_refuses_what_makes_no_sense(command, arguments):
    found = command(*arguments)
    assert isinstance(found.exception, ValueError)
