"""AttackBench's optimality of an attack, computed exactly from the distances a run has stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from foolart.evaluation.statistics import (
    UNKNOWN,
    Estimate,
    Floats,
    Integers,
    finite,
    percentile_interval,
    resamples,
    weighted_sums,
)

Key = TypeVar("Key")


def best_per_image(images: Integers, distances: Floats, among: Integers) -> Floats:
    """The smallest distance to each of the images ``among``; infinite where there is none."""
    best = np.full(len(among), np.inf)
    place = np.searchsorted(among, images)
    np.minimum.at(best, place, distances)
    return best


def envelope(samples: Mapping[Key, tuple[Integers, Floats]]) -> tuple[Integers, Floats]:
    """The images that any attack was run on, and the smallest distance that any of them found.

    Args:
        samples: For each attack the image of each row and its distance, infinite for a failure.
    """
    if not samples:
        return np.empty(0, np.int64), np.empty(0)
    images = np.concatenate([sample[0] for sample in samples.values()])
    distances = np.concatenate([sample[1] for sample in samples.values()])
    names = np.unique(images)
    return names, best_per_image(images, distances, names)


def local_optimality(
    samples: Mapping[Key, tuple[Integers, Floats]],
    *,
    best: tuple[Integers, Floats] | None = None,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[Key, Estimate]:
    """How much of the best known attack each attack achieves on one model [#AB]_.

    ``LO = (e0 - area(attack)) / (e0 - area(envelope))`` on the images that the model classifies
    correctly, with ``area`` the one under robust accuracy against distance from 0 to ``e0``: robust
    accuracy is a step function, so that this is ``mean(min(distance, e0))``. AttackBench counts
    misclassified images at distance 0, which scales all terms by the clean accuracy rho and leaves
    the ratio as it is. ``e0`` is the envelope's largest finite distance. Where an attack was run on
    some of the images only (a run under way), both areas are taken on those.

    Args:
        samples: For each attack the image of each row and its distance, infinite for a failure.
        best: The envelope, where it knows more attacks than ``samples``; it has all their images.
        draws: Number of bootstrap samples of images; ``e0`` stays, since the bootstrap of a
            maximum is inconsistent.
        seed: Seed of the bootstrap.
        confidence: Nominal coverage of the intervals.

    Returns:
        For each attack its optimality, 1 for an attack that is best on every image; without a
        value where the envelope's area is ``e0`` itself (every image at the same distance).

    References:
        .. [#AB] Cinà et al., "AttackBench: Evaluating gradient-based attacks for adversarial
           examples", AAAI 2025.
    """
    names, smallest = envelope(samples) if best is None else best
    e0 = float(np.max(smallest[np.isfinite(smallest)], initial=0.0))
    found = {}
    for key, (images, distances) in samples.items():
        attack, optimum = _areas(images, distances, names, smallest, e0)
        n = len(attack)
        if n == 0:
            found[key] = UNKNOWN
            continue
        counts = resamples(n, draws if n > 1 else 0, seed)
        spread = _ratio(e0, weighted_sums(counts, attack) / n, weighted_sums(counts, optimum) / n)
        value = float(_ratio(e0, attack.mean(), optimum.mean()))
        found[key] = percentile_interval(spread, value, confidence)
    return found


def global_optimality(local: Sequence[Estimate]) -> Estimate:
    """The mean of an attack's local optimalities over models, those without a value left out.

    The interval treats the models' bootstrap errors as independent.
    """
    known = np.array(
        [(x.value, x.low, x.high) for x in local if x.value is not None], dtype=np.float64
    ).reshape(-1, 3)
    if len(known) == 0:
        return UNKNOWN
    value, low, high = known.T
    mean = float(value.mean())
    below = float(np.linalg.norm(value - low)) / len(known)
    above = float(np.linalg.norm(high - value)) / len(known)
    # clip, unlike max and min, keeps the NaN of an unknown bound.
    return Estimate(mean, *(finite(np.clip(end, 0, 1)) for end in (mean - below, mean + above)))


def _areas(
    images: Integers, distances: Floats, names: Integers, smallest: Floats, e0: float
) -> tuple[Floats, Floats]:
    """Each image's share of the attack's area (mean over its seeds) and of the envelope's."""
    own, rows = np.unique(images, return_inverse=True)
    attack = np.bincount(rows, np.minimum(distances, e0)) / np.bincount(rows)
    return attack, np.minimum(smallest[np.searchsorted(names, own)], e0)


def _ratio(e0: float, attack: Floats, optimum: Floats) -> Floats:
    gain = np.asarray(e0 - optimum, dtype=np.float64)
    possible = gain > 1e-12 * e0
    return np.where(possible, (e0 - attack) / np.where(possible, gain, 1.0), np.nan)
