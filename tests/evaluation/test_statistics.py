from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foolart.evaluation.statistics import (
    dkw,
    holm,
    jsonable,
    normal_quantile,
    percentile_interval,
    quantile,
    resamples,
    sign_test,
    signed_rank_test,
    standard_error,
    weighted_sums,
    wilson,
)


@pytest.mark.parametrize("n", [1, 7, 40, 1000])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_is_scipys(n, confidence):
    stats = pytest.importorskip("scipy.stats")
    for k in {0, 1, n // 3, n - 1, n}:
        interval = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        ours = wilson(k / n, n, confidence)
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (k / n, interval.low, interval.high), abs=1e-12
        )


def test_without_observations_nothing_is_known():
    assert wilson(0.0, 0).value is None
    assert quantile(np.empty(0), 0.5).value is None
    assert dkw(0) == 1


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.1, math.nan])
def test_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence strictly between 0 and 1"):
        normal_quantile(confidence)


def test_the_band_holds_the_whole_distribution_as_often_as_it_says():
    generator, n, runs = np.random.default_rng(1), 20, 4000
    draws = np.sort(generator.uniform(size=(runs, n)), axis=1)
    steps = np.arange(n + 1) / n
    worst = np.maximum(np.abs(draws - steps[1:]), np.abs(draws - steps[:-1])).max(axis=1)
    coverage = (worst <= dkw(n)).mean()
    assert 0.945 < coverage < 0.99  # never below nominal (up to simulation noise), not vacuous


def test_quantiles_of_small_samples():
    values = np.array([4.0, 1.0, np.inf, 2.0, 3.0])
    assert quantile(values, 0.5).value == 3  # P(D) reaches one half at the third of five
    assert quantile(values, 0.6).value == 3
    assert quantile(values, 0.61).value == 4
    assert quantile(values, 0.9).value is None  # the attack never gets that far
    assert quantile(np.arange(1.0, 101.0), 0.07).value == 7  # although 0.07 * 100 > 7 in floats


def test_the_quantile_interval_covers_the_true_median():
    generator, n, runs = np.random.default_rng(2), 25, 1500
    hits = 0
    for sample in generator.exponential(size=(runs, n)):
        interval = quantile(sample, 0.5)
        hits += interval.low <= math.log(2) <= interval.high
    assert 0.93 < hits / runs < 0.98


def test_one_row_an_image_gives_the_textbook_standard_error():
    values = np.random.default_rng(3).normal(size=12)
    assert standard_error(values, np.arange(12)) == pytest.approx(values.std(ddof=1) / 12**0.5)


def test_repeating_every_image_adds_no_certainty():
    values, images = np.random.default_rng(4).normal(size=9), np.arange(9)
    once = standard_error(values, images)
    assert standard_error(np.tile(values, 5), np.tile(images, 5)) == pytest.approx(once)


def test_one_image_has_no_standard_error():
    assert standard_error(np.array([1.0, 2.0]), np.array([3, 3])) is None


def test_resamples_are_seeded_and_complete():
    counts = resamples(6, 50, seed=7)
    assert (counts.sum(axis=1) == 6).all()
    assert (counts == resamples(6, 50, seed=7)).all()
    assert (counts != resamples(6, 50, seed=8)).any()
    values = np.arange(6.0)
    assert weighted_sums(counts, values) == pytest.approx(counts @ values)


def test_the_bootstrap_interval_of_a_mean_is_close_to_the_normal_one():
    values = np.random.default_rng(5).normal(size=400)
    counts = resamples(400, 2000, seed=0)
    interval = percentile_interval(weighted_sums(counts, values) / 400, values.mean())
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_sign_test_in_closed_form():
    assert sign_test(5, 0) == pytest.approx(2 / 2**5)
    assert sign_test(6, 1) == pytest.approx(2 * (1 + 7) / 2**7)
    assert sign_test(0, 0) == sign_test(3, 3) == 1
    stats = pytest.importorskip("scipy.stats")
    for wins, losses in ((7, 2), (2, 7), (600, 500), (4, 5)):
        expected = stats.binomtest(wins, wins + losses).pvalue
        assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_signed_ranks_treat_failures_as_the_largest_differences():
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert signed_rank_test(a, a + 1) == pytest.approx(2 / 2**6)  # all six differences agree
    assert signed_rank_test(a, np.where(a > 4, np.inf, a + 1)) == pytest.approx(2 / 2**6)
    assert signed_rank_test(a, a) == 1
    failed = np.full(6, np.inf)
    assert signed_rank_test(failed, failed) == 1
    # One failure outranks two small gains: W+ = 3 of 6, no evidence either way.
    assert signed_rank_test(np.array([1.0, 2.0, np.inf]), np.array([1.5, 2.4, 3.0])) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_json_holds_no_nan():
    plain = jsonable({"a": (1.0, math.nan), "b": np.array([math.inf, 2.0]), 3: "x"})
    assert plain == {"a": [1.0, None], "b": [None, 2.0], "3": "x"}
