"""The tables of the replication are scenarios that the harness accepts."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("tomli_w")

from foolart.evaluation.catalogue import build_attack
from foolart.evaluation.engine import evaluate
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.summary import Line, Row

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(STUDIES))
    try:
        import replication

        yield replication
    finally:
        sys.path.remove(str(STUDIES))


def all_scenarios(study):
    for table, attacks in study.TABLES.items():
        for setting in study.tables.SETTINGS:
            yield study.scenario(table, setting, attacks, 5)


def test_every_table_is_a_scenario(study):
    for scenario in all_scenarios(study):
        assert Scenario.parse(scenario.to_toml(), scenario.name) == scenario


def test_every_attack_can_be_built(study):
    specs = {spec.key(): spec for scenario in all_scenarios(study) for spec in scenario.attacks}
    for spec in specs.values():
        build_attack(spec)


def test_all_attacks_have_as_many_settings_to_choose_among(study):
    assert {len(specs) for specs in study.tables.GRID.values()} == {6}


def test_parameters_are_chosen_on_other_images_than_those_of_the_tables(study):
    def rows(table, setting):
        (spec,) = study.scenario(table, setting, study.TABLES[table], 5).data
        return spec.name, spec.params.get("images")

    for setting in study.tables.SETTINGS:
        assert rows("choose", setting) != rows("benchmark", setting)


def test_the_closest_setting_is_chosen(study, linear, monkeypatch, tmp_path):
    grid = {
        name: [{"name": "boundary-projection", "steps": steps} for steps in tried]
        for name, tried in {"rising": (1, 20), "falling": (20, 1), "equal": (20, 20)}.items()
    }
    monkeypatch.setattr(study.tables, "GRID", grid)
    pixels = linear.images.mul(255).round().byte().numpy()
    asked = {
        "models": [("linear", linear.model())],
        "data": [("images", (pixels, linear.labels.numpy()))],
        "attacks": [{**spec, "label": label} for label, spec in study.numbered(grid).items()],
        "images": "none",
    }
    results = evaluate(asked, tmp_path, report=False)
    assert study.chosen(results) == {name: {**grid["equal"][0]} for name in grid}
    assert "| linear | rising #1 | lagrangian | 1.00 |" in study.text(results)


def test_a_table_says_what_broke(study):
    line = Line("test", "mnist", "BP-20", "rounded", "", "white-box", "mnist")
    results = SimpleNamespace(
        scenario=SimpleNamespace(budgets=(2.0,)),
        summary=SimpleNamespace(rows=[Row(line, error="5 of 5 images: it broke")]),
    )
    head, _, row = study.text(results).splitlines()
    assert row.count("|") == head.count("|")
    assert "BP-20 | rounded | – |" in row
    assert "it broke" in row


def test_two_failures_are_no_win(study, tmp_path, capsys):
    import kept_results

    rows = ["attack,variant,correct,distance", *(f"DDN,lagrangian,True,{d}" for d in (1, 3, "nan"))]
    (tmp_path / "per_image.csv").write_text("\n".join(rows))
    kept_results.beside([2.0, 2.0, math.inf], tmp_path / "per_image.csv")
    assert "| DDN | 1 of 3 | 1.155 ± " in capsys.readouterr().out
