from __future__ import annotations

import math

import pytest

from foolart.evaluation.gradient_checks import NO_GRADIENT, signs

from .synthetic import record, records

NAN = math.nan
SOUND = {"transfer": [NAN, NAN, 1.5], "decision": [NAN, 0.9, 2.0], "bpda": [0.1, 0.2, 0.3]}


def rows(threats, **changes):
    return [
        row
        for threat, distances in threats.items()
        for row in records(distances, threat=threat, defence="jpeg", **changes)
    ]


def test_a_sound_evaluation_raises_no_suspicion():
    assert signs(rows(SOUND), budget=1.0) == ()
    assert signs([], budget=1.0) == ()


def test_zero_gradients_are_counted_by_threat():
    found = [*rows(SOUND), *rows({"true-gradient": [0.1, NAN]}, flags=f"norm;{NO_GRADIENT}")]
    assert signs(found, budget=1.0) == ("true-gradient: no gradient on 2 of 2 images",)


def test_images_that_survive_at_any_distance():
    found = rows({**SOUND, "bpda": [0.1, NAN, 30.0]})
    assert signs(found, budget=1.0) == ("1 of 3 images survive every gradient attack",)
    found += rows({"bpda-eot": [NAN, 5.0, NAN]})
    assert signs(found, budget=1.0) == ()


@pytest.mark.parametrize("threat", ["transfer", "decision"])
def test_gradients_that_are_weaker_than_none(threat):
    found = rows({**SOUND, "bpda": [0.1, 1.2, 1.3], threat: [0.5, 0.5, NAN]})
    expected = f"{threat} fools more images than gradients do (2 against 1)"
    assert signs(found, budget=1.0) == (expected,)
    assert signs(found, budget=2.0) == ()


@pytest.mark.parametrize("name", ["pgd(eps=1e-1, steps={})", "PGD2-{}, eps 1"])
def test_more_steps_that_are_weaker(name):
    found = [
        *rows(SOUND),
        *rows({"bpda": [0.1, 0.1, NAN]}, attack=name.format(10)),
        *rows({"bpda": [0.1, NAN, NAN]}, attack=name.format(40)),
        *rows({"bpda": [NAN, NAN, NAN]}, attack="other-80"),
    ]
    expected = f"bpda: {name.format(40)} (rounded) fools fewer images than with 10 steps"
    assert signs(found, budget=1.0) == (f"{expected} (1 against 2)",)


def test_a_small_number_is_no_number_of_steps():
    found = [
        *rows({"bpda": [0.1, 0.1, 0.1]}, attack="fgsm(stepsize=1e-05)"),
        *rows({"bpda": [NAN, NAN, NAN]}, attack="fgsm(stepsize=1e-06)"),
    ]
    assert not [sign for sign in signs(found, budget=1.0) if "steps" in sign]


def test_what_was_not_tried_is_said_of_a_defence_only():
    assert signs(rows({"transfer": [0.1]}), budget=1.0)[-2:] == (
        "not attacked by BPDA",
        "not attacked by decision",
    )
    assert signs(rows({"bpda-eot": [0.1], "decision": [NAN]}), budget=1.0) == (
        "not attacked by transfer",
    )
    assert signs(records([0.1]), budget=1.0) == ()


def test_misclassified_and_broken_rows_do_not_count():
    found = rows(SOUND)
    found.append(record(7, 0.0, threat="transfer", defence="jpeg", correct=False))
    found.append(record(8, threat="bpda", defence="jpeg", flags="broken: ValueError"))
    assert signs(found, budget=1.0) == ()
