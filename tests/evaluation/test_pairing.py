from __future__ import annotations

import math

import pytest

from foolart.evaluation.pairing import paired_wins

INF = math.inf


def rows(*distances):
    return {(image, 0): distance for image, distance in enumerate(distances)}


def test_wins_by_hand():
    (pair,) = paired_wins(
        {"a": rows(1.0, 2.0, INF, INF, 1.0, 3.0), "b": rows(2.0, 2.0, 5.0, INF, INF, 1.0)}
    )
    assert (pair.attack, pair.other) == ("a", "b")
    assert (pair.wins, pair.ties, pair.losses) == (2, 2, 2)
    assert pair.p_value == 1


def test_float_noise_is_no_win():
    (pair,) = paired_wins({"a": rows(0.3, 1.0), "b": rows(0.1 + 0.2, 1.0 + 1e-5)})
    assert (pair.wins, pair.ties, pair.losses) == (1, 1, 0)


def test_only_images_that_both_were_run_on_count():
    (pair,) = paired_wins({"a": {(4, 0): 1.0, (5, 0): 1.0}, "b": {(5, 0): 2.0, (6, 0): 0.1}})
    assert (pair.wins, pair.ties, pair.losses) == (1, 0, 0)
    (pair,) = paired_wins({"a": {(4, 0): 1.0}, "b": {(5, 0): 2.0}})
    assert (pair.wins, pair.ties, pair.losses, pair.p_value) == (0, 0, 0, 1.0)


def test_the_seeds_of_an_image_vote_once():
    a = {(0, seed): 1.0 for seed in range(9)} | {(1, seed): 1.0 for seed in range(2)}
    b = {(0, seed): 2.0 for seed in range(9)} | {(1, 0): 2.0, (1, 1): 0.5}
    (pair,) = paired_wins({"a": a, "b": b})
    assert (pair.wins, pair.ties, pair.losses) == (1, 1, 0)


def test_three_attacks_are_corrected_together():
    samples = {
        "a": rows(*[1.0] * 10),
        "b": rows(*[2.0] * 10),
        "c": rows(*[1.5] * 9, 3.0),
    }
    found = {(pair.attack, pair.other): pair for pair in paired_wins(samples)}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    p = 2 / 2**10
    assert found["a", "b"].p_value == pytest.approx(p)
    assert found["a", "b"].p_adjusted == pytest.approx(3 * p)
    assert found["b", "c"].p_value == pytest.approx(11 * p)
