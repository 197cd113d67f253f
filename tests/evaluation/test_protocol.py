from __future__ import annotations

import dataclasses
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foolart.evaluation.characteristic import OperatingCharacteristic, Sample, by_line
from foolart.evaluation.protocol import summarize
from foolart.evaluation.statistics import wilson
from foolart.evaluation.summary import Line

from .synthetic import record, records

NAN = math.nan


def only_row(rows, **options):
    (row,) = summarize(rows, **options).rows
    return row


def test_equations_3_1_and_3_2_by_hand():
    row = only_row(records([0.1, 0.4, NAN, 0.4, 1.1]), budgets=(0.4, 1.0, 2.0))
    assert (row.images, row.correct, row.seeds) == (5, 5, 1)
    assert row.p_suc == wilson(4 / 5, 5)
    assert row.mean.value == pytest.approx(0.5)
    assert row.standard_error == pytest.approx(np.std([0.1, 0.4, 0.4, 1.1], ddof=1) / 2)
    assert row.median.value == pytest.approx(0.4)
    assert {budget: p.value for budget, p in row.p_upp.items()} == {"0.4": 0.6, "1": 0.6, "2": 0.8}
    assert row.quantiles["0.75"].value == pytest.approx(1.1)
    assert row.quantiles["0.9"].value is None  # never reached: P_suc is .8
    assert (row.forwards, row.backwards) == (21, 20)
    assert row.mean.low < row.mean.value < row.mean.high


def test_misclassified_images_count_in_the_accuracy_only():
    rows = [*records([0.2, NAN]), record(2, 0.0, correct=False, clean_prediction=1, label=3)]
    summary = summarize(rows)
    (row,) = summary.rows
    assert (row.images, row.correct) == (3, 2)
    assert row.p_suc == wilson(0.5, 2)
    assert row.mean.value == pytest.approx(0.2)
    assert row.mean.low == row.mean.high == pytest.approx(0.2)
    assert [(clean.images, clean.accuracy) for clean in summary.clean] == [(3, wilson(2 / 3, 3))]


def test_an_attack_that_never_succeeds_has_no_distortion():
    row = only_row(records([NAN] * 4))
    assert row.p_suc.value == 0
    assert row.p_suc.high > 0
    assert row.mean.value is row.median.value is row.standard_error is None
    assert row.quantiles["0.1"].value is None


def test_a_model_that_is_always_wrong_leaves_nothing_to_attack():
    rows = [record(i, 0.0, correct=False, clean_prediction=1) for i in range(3)]
    summary = summarize(rows)
    assert summary.rows[0].correct == 0
    assert summary.rows[0].p_suc.value is None
    assert summary.clean[0].accuracy.value == 0
    json.dumps(summary.as_json(), allow_nan=False)


def test_a_success_without_a_distance_is_no_success():
    row = only_row([record(0, 0.5), record(1, NAN, success=True), record(2, math.inf)])
    assert row.p_suc.value == pytest.approx(1 / 3)


def test_broken_rows_are_told_apart_from_failures():
    broken = record(2, flags="broken: RuntimeError: out of memory", correct=False)
    row = only_row([record(0, 0.5), record(1), broken])
    assert (row.images, row.correct, row.broken) == (2, 2, 1)
    assert row.p_suc.value == 0.5
    assert row.flags == {}
    assert row.error == "1 of 3 images: RuntimeError: out of memory"


def test_every_requested_comparison_has_a_line_in_the_order_of_the_request():
    rows = [*records([0.1], attack="ddn"), *records([0.1], attack="unasked")]
    ask = [record(attack=name).comparison for name in ("crashed", "waiting", "ddn")]
    summary = summarize(rows, requested=ask, errors={ask[0]: "ValueError: no such model"})
    assert [(row.line.attack, row.error) for row in summary.rows] == [
        ("crashed", "ValueError: no such model"),
        ("waiting", "no results yet"),
        ("ddn", ""),
        ("unasked", ""),
    ]
    assert [row.p_suc.value for row in summary.rows] == [None, None, 1.0, 1.0]


def test_a_missing_seed_is_said():
    ask = [record(seed=seed).comparison for seed in (0, 1, 2)]
    row = only_row([record(0, 0.1), record(0, 0.1, seed=2)], requested=ask)
    assert row.error == "no results for the seeds [1]"


def test_seeds_are_pooled_but_add_no_images():
    once = records([0.2, NAN, 0.6, 0.3])
    thrice = [dataclasses.replace(row, seed=seed) for row in once for seed in range(3)]
    one, three = only_row(once), only_row(thrice)
    assert three.seeds == 3
    for name in ("images", "correct", "p_suc", "median", "p_upp", "quantiles"):
        assert getattr(one, name) == getattr(three, name)
    assert dataclasses.astuple(one.mean) == pytest.approx(dataclasses.astuple(three.mean))
    assert one.standard_error == pytest.approx(three.standard_error)


def test_flags_are_counted():
    rows = [record(0, 0.1, flags="off grid;norm"), record(1, 0.1, flags="norm"), record(2, 0.1)]
    assert only_row(rows).flags == {"norm": 2, "off grid": 1}


def test_perceptual_scores_are_averaged_over_the_successes():
    rows = [*records([0.1, 0.2, 0.3, NAN]), record(4, 0.0, correct=False)]
    scores = {
        (row.comparison, row.image): {"mad": value, "psnr": 40.0 + value}
        for row, value in zip(rows, [0.0, 3.0, NAN, 100.0, 100.0], strict=True)
    }
    row = only_row(rows, perception=scores)
    assert row.perception["mad"] == {"mean": 1.5, "median": 1.5, "zeros": 0.5, "count": 2}
    assert row.perception["psnr"]["mean"] == pytest.approx(41.5)


def test_the_other_norm_is_kept_and_can_lead():
    rows = records([0.4, 0.8])
    l2, linf = only_row(rows), only_row(rows, norm="linf")
    assert (l2.mean.value, l2.mean_other_norm) == pytest.approx((0.6, 0.15))
    assert (linf.mean.value, linf.mean_other_norm) == pytest.approx((0.15, 0.6))


def test_8_bit_attacks_compete_among_themselves_and_raw_ones_with_all():
    rows = [
        *records([1.0, 2.0, 4.0], attack="bp", variant="raw"),
        *records([1.0, 2.0, 4.0], attack="bp", variant="rounded"),
        *records([0.5, 1.0, 4.0], attack="ddn", variant="raw"),
        *records([3.0, NAN, 4.0], attack="ddn", variant="rounded"),
    ]
    found = {(r.line.attack, r.line.variant): r.optimality.value for r in summarize(rows).rows}
    assert found["bp", "rounded"] == found["ddn", "raw"] == 1
    assert found["ddn", "rounded"] == pytest.approx((12 - 11) / (12 - 7))
    assert found["bp", "raw"] == pytest.approx((12 - 7) / (12 - 5.5))


def test_attacks_on_different_tasks_are_never_compared():
    rows = [
        *records([1.0, 2.0], attack="bp"),
        *records([2.0, 4.0], attack="ddn", threat="transfer", source="other"),
        *records([2.0, 4.0], attack="ddn", defence="jpeg"),
    ]
    summary = summarize(rows)
    assert summary.wins == ()
    assert {row.optimality.value for row in summary.rows} == {1.0}


def test_wins_within_a_task():
    rows = [
        *records([0.1, 0.2, NAN], attack="bp"),
        *records([0.2, 0.2, NAN], attack="ddn"),
    ]
    (group,) = summarize(rows).wins
    assert (group.task.model, group.variant) == ("net", "rounded")
    ((pair,),) = [group.wins]
    assert (pair.attack, pair.other, pair.wins, pair.ties, pair.losses) == ("bp", "ddn", 1, 2, 0)


def test_global_optimality_over_the_models():
    rows = [
        *records([1.0, 2.0], attack="bp", model="a"),
        *records([2.0, 2.0], attack="ddn", model="a"),
        *records([3.0, 2.0], attack="bp", model="b"),
        *records([1.0, 2.0], attack="ddn", model="b"),
        *records([1.0, 2.0], attack="bp", model="b", source="a", threat="transfer"),
    ]
    found = {item.attack: item for item in summarize(rows).optimality}
    assert found["bp"].models == found["ddn"].models == 2
    assert found["bp"].optimality.value == pytest.approx((1 + 0) / 2)
    assert found["ddn"].optimality.value == pytest.approx((0 + 1) / 2)


def test_order_does_not_matter_and_the_json_is_plain():
    rows = [
        *records([0.1, NAN, 0.3, 0.7], attack="bp"),
        *records([0.2, 0.25, 0.3, NAN], attack="ddn", flags="norm"),
    ]
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    text = json.dumps(summarize(rows).as_json(), allow_nan=False, sort_keys=True)
    assert text == json.dumps(summarize(shuffled).as_json(), allow_nan=False, sort_keys=True)
    plain = json.loads(text)
    assert plain["rows"][0]["line"]["attack"] == "bp"
    assert plain["rows"][0]["p_suc"]["value"] == 0.75
    assert plain["wins"][0]["task"]["model"] == "net"


def test_no_records_at_all():
    summary = summarize([])
    assert summary.rows == summary.clean == summary.wins == ()


@given(
    st.lists(st.one_of(st.just(NAN), st.sampled_from([0.1, 0.5]), st.floats(0, 3)), min_size=1),
    st.floats(0, 4),
)
def test_the_operating_characteristic_is_the_count(distances, budget):
    curve = OperatingCharacteristic.of(Sample.of(records(distances)))
    assert curve(budget) == pytest.approx(sum(d <= budget for d in distances) / len(distances))
    assert (np.diff(curve.distances) > 0).all()
    assert (np.diff(curve.probability) > 0).all()


def test_an_image_twice_is_refused():
    with pytest.raises(ValueError, match="image 0 with seed 0 occurs twice"):
        by_line([record(0, 0.1), record(0, 0.2)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "expected norm to be one of l2, linf, got 'l1'"),
        ({"budgets": (0.0,)}, "at least one budget, positive and finite, got"),
        ({"budgets": ()}, "at least one budget"),
        ({"budgets": (NAN,)}, "positive and finite"),
        ({"confidence": 95}, "confidence strictly between 0 and 1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        summarize(records([0.1]), **options)


def test_a_line_forgets_the_seed():
    a, b = record(seed=1).comparison, record(seed=2).comparison
    assert Line.of(a) == Line.of(b)
    assert Line.of(a).task.model == "net"
