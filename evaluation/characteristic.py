"""The distances of one line of the tables, and the operating characteristic P(D) they make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from foolart.evaluation.records import Record
from foolart.evaluation.statistics import Floats, Integers, dkw
from foolart.evaluation.summary import Line

NORMS = {"l2": "distance", "linf": "distance_linf"}


@dataclass(frozen=True)
class Sample:
    """The rows of one line that count: those of correctly classified images.

    Attributes:
        images: The image of each row, ``(R,)``.
        seeds: The seed of each row, ``(R,)``.
        distances: The distance of each row, infinite where the attack failed, ``(R,)``.
    """

    images: Integers
    seeds: Integers
    distances: Floats

    @classmethod
    def of(cls, records: Sequence[Record], norm: str = "l2") -> Sample:
        """Collect the rows; a success without a finite distance counts as a failure."""
        counted = [record for record in records if record.correct and not record.broken]
        distance = [
            getattr(record, NORMS[norm]) if record.success else np.inf for record in counted
        ]
        distances = np.array(distance, dtype=np.float64)
        return cls(
            np.array([record.image for record in counted], dtype=np.int64),
            np.array([record.seed for record in counted], dtype=np.int64),
            np.where(np.isfinite(distances), distances, np.inf),
        )

    @property
    def n(self) -> int:
        """Number of distinct images, the sample size of every interval."""
        return len(np.unique(self.images))

    @property
    def found(self) -> Sample:
        """The successes alone."""
        success = np.isfinite(self.distances)
        return Sample(self.images[success], self.seeds[success], self.distances[success])

    def by_row(self) -> dict[tuple[Any, int], float]:
        """The distances by (image, seed), for pairing."""
        keys = zip(self.images.tolist(), self.seeds.tolist(), strict=True)
        return dict(zip(keys, self.distances.tolist(), strict=True))


@dataclass(frozen=True)
class OperatingCharacteristic:
    """P(D) exactly: a step function that jumps at ``distances``, with a simultaneous band.

    Attributes:
        distances: The distances of the successes in increasing order, each once.
        probability: P(D) from each of them up to the next; 0 before the first.
        half_width: The true curve lies within ``probability +- half_width``, clipped to [0, 1],
            everywhere at once with the nominal confidence.
    """

    distances: Floats
    probability: Floats
    half_width: float

    @classmethod
    def of(cls, sample: Sample, confidence: float = 0.95) -> OperatingCharacteristic:
        """The curve of a line's rows."""
        steps, counts = np.unique(sample.found.distances, return_counts=True)
        probability = np.cumsum(counts) / max(1, len(sample.distances))
        return cls(steps, probability, dkw(sample.n, confidence))

    def __call__(self, budget: float) -> float:
        """P(budget)."""
        index = int(np.searchsorted(self.distances, budget, side="right"))
        return float(self.probability[index - 1]) if index else 0.0


def by_line(records: Iterable[Record]) -> dict[Line, list[Record]]:
    """The records of each line, sorted by image and seed.

    Raises:
        ValueError: If an image occurs twice in a line under one seed.
    """
    lines: dict[Line, list[Record]] = defaultdict(list)
    for record in records:
        lines[Line.of(record.comparison)].append(record)
    for line, rows in lines.items():
        rows.sort(key=lambda record: (record.image, record.seed))
        for a, b in pairwise(rows):
            if (a.image, a.seed) == (b.image, b.seed):
                raise ValueError(
                    f"image {a.image} with seed {a.seed} occurs twice in {line}: expected each "
                    "image once per comparison; remove the duplicate rows"
                )
    return dict(sorted(lines.items()))
