from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tomli_w")

from foolart.evaluation.scenario import Run, Scenario, presets


def make(**changes):
    return Scenario(**{"attacks": ["ddn(steps=5)"], **changes})


def test_toml_says_all_of_it():
    scenario = make(
        models=["efficientnet-lite0", {"name": "m:f", "label": "mine", "mean": [0.1, 0.2]}],
        attacks=["ddn", "boundary-projection(levels=None)"],
        defences=["bit-depth(bits=3)"],
        threats=["transfer", "white-box"],
        seeds=[3, 1],
        queries=100,
        threads=2,
        name="all of it",
        run=Run(workers=2, cluster={"slurm_partition": "gpu"}),
    )
    again = Scenario.parse(scenario.to_toml(), "here")
    assert again == scenario
    assert again.to_toml() == scenario.to_toml()


def test_order_and_manner_do_not_make_another_configuration():
    a = make(variants=["rounded", "raw"], run=Run(workers=3, shards=2), name="a")
    b = make(variants=["raw", "rounded"], name="b", budgets=[2.0])
    assert a.configuration() == b.configuration()
    assert a.configuration() != make(variants=["raw"]).configuration()
    assert a.configuration() != make(compute_batch=7, variants=["raw", "rounded"]).configuration()


def test_every_preset_can_be_read():
    assert "quick" in presets()
    for name in presets():
        scenario = Scenario.of(name)
        assert scenario.name == name
        assert scenario.description


def test_changes_reach_the_run_too():
    changed = make().with_(workers=4, seeds=[7])
    assert (changed.run.workers, changed.seeds) == (4, (7,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": []}, "expected at least one of attacks"),
        ({"variants": ["round"]}, "unknown variant 'round': did you mean rounded"),
        ({"variants": []}, "expected at least one of variants"),
        ({"threats": ["whitebox"]}, "unknown threat 'whitebox': did you mean white-box"),
        ({"seeds": [-1]}, "expected seeds to be an integer >= 0, got -1"),
        ({"seeds": [1, 1]}, "seeds: 1 named twice"),
        ({"budgets": [0]}, "expected budgets > 0"),
        ({"compute_batch": 0}, "expected compute_batch to be an integer >= 1, got 0"),
        ({"queries": 1.5}, "expected queries to be an integer"),
        ({"images": "some"}, "expected images to be all or none"),
        ({"images": "none", "threats": ["transfer"]}, "needs images = all"),
        ({"budgets": []}, "expected budgets > 0"),
        ({"budgets": [float("inf")]}, "expected budgets > 0 and finite, got inf"),
        ({"run": "slurm"}, "expected run to be a table, got 'slurm'"),
        ({"threats": ["adaptive"]}, "adaptive is about defences, but none is given"),
        ({"threats": ["transfer"]}, "there is one model and no defence: add one"),
        (
            {"threats": ["transfer"], "variants": ["raw"], "defences": ["median"]},
            "rounded or lagrangian among the variants",
        ),
        ({"data": (np.zeros((2, 8, 8)), np.zeros(2))}, r'data=\[\("mine", \(images, labels\)\)'),
        ({"attacks": ["ddn", "ddn"]}, "attacks: ddn named twice: .* by a label"),
        ({"models": [{"label": "x"}]}, "a table with a name for each model"),
        ({"run": {"worker": 2}}, r"unknown key in \[run\]: 'worker': did you mean workers"),
        ({"run": {"executor": "slrm"}}, "unknown executor 'slrm': did you mean slurm"),
        ({"run": {"shards": 0}}, "expected shards to be an integer >= 1"),
    ],
)
def test_what_is_wrong_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_what_is_wrong_with_a_file_names_the_file(tmp_path):
    path = tmp_path / "s.toml"
    with pytest.raises(ValueError, match=r"s\.toml: cannot be read"):
        Scenario.of(path)
    path.write_text("attacks = [")
    with pytest.raises(ValueError, match=r"s\.toml: not valid TOML"):
        Scenario.of(path)
    path.write_text('attack = ["ddn"]')
    with pytest.raises(
        ValueError, match=r"s\.toml: unknown key of a scenario: 'attack': .*attacks"
    ):
        Scenario.of(path)
    with pytest.raises(ValueError, match="unknown preset 'quik': did you mean quick"):
        Scenario.of("quik")
