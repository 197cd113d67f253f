"""Attacks compared image by image, on the images that both were run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from foolart.evaluation.statistics import Floats, holm, sign_test

RELATIVE_TIE = 1e-6  # Distances this close are one distance in float32, not a win.

Distances = Mapping[tuple[Any, int], float]
"""The distance of each (image, seed), infinite where the attack failed. Images sort."""


@dataclass(frozen=True)
class Wins:
    """How often one attack came closer than another.

    Attributes:
        attack: The attack whose wins are counted.
        other: The attack that it is compared with.
        wins: Images on which ``attack`` found the smaller distance (a success beats a failure).
        ties: Images on which both found the same, or both failed.
        losses: Images on which ``other`` found the smaller distance.
        p_value: Exact two-sided sign test.
        p_adjusted: The same after Holm's correction over all pairs of the group.
    """

    attack: str
    other: str
    wins: int
    ties: int
    losses: int
    p_value: float
    p_adjusted: float


def paired(a: Distances, b: Distances) -> tuple[list[Any], Floats, Floats]:
    """The rows that both have, in one order: the image of each, and both distances."""
    common = sorted(a.keys() & b.keys())
    return (
        [image for image, _ in common],
        np.array([a[key] for key in common], dtype=np.float64),
        np.array([b[key] for key in common], dtype=np.float64),
    )


def signs(images: list[Any], a: Floats, b: Floats) -> Floats:
    """For each image -1 where ``a`` is closer, 1 where ``b`` is, 0 for a tie, over its seeds."""
    failed = np.isinf(a) & np.isinf(b)
    with np.errstate(invalid="ignore"):
        tie = failed | (np.abs(a - b) <= RELATIVE_TIE * np.maximum(a, b))
    # Infinity is within any share of infinity, but a success and a failure are no tie.
    tie &= np.isinf(a) == np.isinf(b)
    outcome = np.where(tie, 0.0, np.where(a < b, -1.0, 1.0))
    _, rows = np.unique(np.asarray(images), return_inverse=True)
    return np.sign(np.bincount(rows, outcome)) if len(images) else np.empty(0)


def paired_wins(samples: Mapping[str, Distances]) -> list[Wins]:
    """Compare all pairs of a group of attacks that solve the same task.

    Args:
        samples: For each attack its distances.
    """
    found = []
    for a, b in combinations(samples, 2):
        outcome = signs(*paired(samples[a], samples[b]))
        wins, ties, losses = (int((outcome == sign).sum()) for sign in (-1, 0, 1))
        p = sign_test(wins, losses)
        found.append(Wins(a, b, wins, ties, losses, p_value=p, p_adjusted=p))
    adjusted = holm([pair.p_value for pair in found])
    return [replace(pair, p_adjusted=p) for pair, p in zip(found, adjusted, strict=True)]
