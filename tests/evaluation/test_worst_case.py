from __future__ import annotations

import math

import pytest

from foolart.evaluation.statistics import wilson
from foolart.evaluation.worst_case import robustness

from .synthetic import record, records

NAN = math.nan


def test_the_worst_case_is_taken_image_by_image():
    rows = [
        *records([0.5, NAN, NAN, NAN], threat="transfer", defence="jpeg"),
        *records([NAN, 0.5, 2.0, NAN], threat="bpda", defence="jpeg"),
        *records([NAN, NAN, NAN, 0.9], threat="bpda", defence="jpeg", attack="pgd"),
        record(4, 0.0, threat="bpda", defence="jpeg", correct=False),
    ]
    (found,) = robustness(rows, budget=1.0)
    assert (found.defence, found.images) == ("jpeg", 5)
    assert found.clean == wilson(4 / 5, 5)
    assert list(found.threats) == ["transfer", "bpda"]
    assert found.threats == {"transfer": wilson(3 / 4, 4), "bpda": wilson(2 / 5, 5)}
    assert found.worst == wilson(1 / 5, 5)
    assert robustness(rows, budget=2.0)[0].worst == wilson(0, 5)


def test_defences_come_in_their_order_and_threats_in_that_of_the_tables():
    threats = ["decision", "true-gradient", "bpda-eot", "bpda-smooth", "bpda", "transfer", "mine"]
    rows = [record(defence=name, threat=t) for name in ("noise", "jpeg") for t in threats]
    found = robustness(rows, budget=1.0)
    assert [item.defence for item in found] == ["noise", "jpeg"]
    order = ["transfer", "bpda", "bpda-smooth", "true-gradient", "bpda-eot", "decision", "mine"]
    assert list(found[0].threats) == order


def test_raw_adversarials_count_only_where_there_are_no_others():
    raw = records([0.1, 0.1], variant="raw")
    assert robustness(raw, budget=1.0)[0].worst.value == 0
    assert robustness(raw + records([NAN, 0.1]), budget=1.0)[0].worst.value == 0.5


def test_a_random_defence_must_hold_in_every_row():
    rows = [record(0, seed=0), record(0, seed=1, correct=False), record(1, seed=0)]
    (found,) = robustness(rows, budget=1.0)
    assert found.clean.value == pytest.approx((0.5 + 1) / 2)
    assert found.worst.value == 0.5


def test_broken_rows_and_models_are_kept_apart():
    rows = [
        record(0, flags="broken: ValueError", correct=False),
        *records([0.1], model="a"),
        *records([NAN], model="b"),
    ]
    found = {item.model: item.worst.value for item in robustness(rows, budget=1.0)}
    assert found == {"a": 0, "b": 1}
