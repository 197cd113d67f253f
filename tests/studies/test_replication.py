"""The tables of the replication are scenarios that the harness accepts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tomli_w")

from foolart.evaluation.catalogue import build_attack
from foolart.evaluation.engine import evaluate
from foolart.evaluation.scenario import Scenario

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
