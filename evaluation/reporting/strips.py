"""Small pictures of a distribution, for the leaderboard's rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foolart.evaluation.reporting import words
from foolart.evaluation.summary import Row

WIDTH = 200  # Of a strip, in its own units.
LEVELS = ("0.1", "0.25", "0.5", "0.75", "0.9")


@dataclass(frozen=True)
class Scale:
    """Where a distance lies on a strip.

    Attributes:
        low: The distance at its left end.
        high: The distance at its right end.
        log: Whether equal steps are equal ratios.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Scale:
        """The scale of a task: logarithmic where its distances differ by much."""
        values = [row.quantiles[level].value for row in rows if row.quantiles for level in LEVELS]
        found = [value for value in values if value]
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        return cls(low, high, log=True) if high > 8 * low > 0 else cls(0.0, high, log=False)

    def __call__(self, value: float | None) -> float:
        """The place of a distance; the right end for one that is never reached."""
        if value is None:
            return WIDTH
        value = min(self.high, max(self.low, value))
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(share * WIDTH, 1)

    @property
    def text(self) -> str:
        """Its ends, in words."""
        ends = f"{words.distance(self.low)} to {words.distance(self.high)}"
        return f"{ends}, logarithmic" if self.log else ends


def strip(row: Row, scale: Scale) -> dict[str, Any]:
    """The places of a row's quantiles; ``open`` says that the last is never reached."""
    values = [row.quantiles[level].value for level in LEVELS]
    said = [
        f"{float(level):.0%} " + ("never" if value is None else f"within {words.distance(value)}")
        for level, value in zip(LEVELS, values, strict=True)
    ]
    return {
        "q": [scale(value) for value in values],
        "dot": values[2] is not None,
        "open": values[4] is None,
        "text": f"Of the images, {', '.join(said)}",
    }
