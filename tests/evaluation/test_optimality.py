from __future__ import annotations

import numpy as np
import pytest

from foolart.evaluation.optimality import envelope, global_optimality, local_optimality
from foolart.evaluation.statistics import Estimate

IMAGES = np.arange(6)
SAMPLES = {
    "good": (IMAGES, np.array([1.0, 2.0, 3.0, 4.0, 1.5, 2.5])),
    "bad": (IMAGES, np.array([3.0, 1.0, np.inf, 5.0, np.inf, 2.5])),
    "useless": (IMAGES, np.full(6, np.inf)),
}


def brute_force_area(distances, e0, rho_images=0):
    """Integrate robust accuracy over a fine grid; misclassified images are never robust."""
    grid = (np.arange(200_000) + 0.5) / 200_000 * e0
    robust = (np.asarray(distances)[:, None] > grid).sum(axis=0) / (len(distances) + rho_images)
    return robust.mean() * e0


@pytest.mark.parametrize("misclassified", [0, 3])
def test_optimality_is_attackbenchs_whatever_the_clean_accuracy(misclassified):
    best = np.array([1.0, 1.0, 3.0, 4.0, 1.5, 2.5])
    e0, rho = 4.0, 6 / (6 + misclassified)
    ours = local_optimality(SAMPLES)
    for name, (_, distances) in SAMPLES.items():
        attack = brute_force_area(distances, e0, misclassified)
        optimum = brute_force_area(best, e0, misclassified)
        expected = (rho * e0 - attack) / (rho * e0 - optimum)
        assert ours[name].value == pytest.approx(expected, abs=1e-4)


def test_the_ends_of_the_scale():
    found = local_optimality({**SAMPLES, "best": envelope(SAMPLES)})
    assert found["best"] == Estimate(1.0, 1.0, 1.0)  # in every bootstrap sample
    assert found["useless"] == Estimate(0.0, 0.0, 0.0)
    for name in ("good", "bad"):
        assert 0 <= found[name].low <= found[name].value <= found[name].high <= 1


def test_an_envelope_that_knows_more_lowers_everyone():
    images, smallest = envelope(SAMPLES)
    alone = local_optimality(SAMPLES)["good"].value
    assert local_optimality(SAMPLES, best=(images, smallest / 2))["good"].value < alone


def test_an_unfinished_attack_is_judged_on_its_own_images():
    best = np.array([1.0, 1.0, 3.0, 4.0, 1.5, 2.5])
    part = {**SAMPLES, "good": (IMAGES[1:3], SAMPLES["good"][1][1:3])}
    e0 = local_optimality(part)["good"].value
    # The envelope now lacks the images that only "good" was best on: e0 is 5.
    assert e0 == pytest.approx((5 - np.mean([2, 3])) / (5 - np.mean(best[1:3])))


def test_several_seeds_of_an_image_are_averaged_and_the_best_is_the_envelope():
    samples = {"a": (np.array([0, 0, 1]), np.array([1.0, 3.0, 4.0]))}
    assert envelope(samples)[1].tolist() == [1.0, 4.0]
    assert local_optimality(samples)["a"].value == pytest.approx((4 - 3) / (4 - 2.5))


def test_no_ratio_where_every_image_lies_at_the_same_distance():
    assert local_optimality({"a": (np.arange(1), np.array([2.0]))})["a"].value is None
    assert local_optimality({"a": (np.arange(2), np.full(2, np.inf))})["a"].value is None
    assert local_optimality({"a": (np.empty(0, int), np.empty(0))})["a"].value is None


def test_the_bootstrap_is_seeded():
    assert local_optimality(SAMPLES, seed=1) == local_optimality(SAMPLES, seed=1)
    assert local_optimality(SAMPLES, seed=1) != local_optimality(SAMPLES, seed=2)


def test_global_optimality_is_the_mean_over_models():
    found = global_optimality([Estimate(0.8, 0.5, 0.9), Estimate(0.6, 0.2, 0.8), Estimate()])
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - 0.25)  # half of the hypotenuse of .3 and .4
    assert found.high == pytest.approx(0.7 + np.hypot(0.1, 0.2) / 2)
    assert global_optimality([Estimate()]).value is None
    assert global_optimality([Estimate(0.5)]) == Estimate(0.5)
