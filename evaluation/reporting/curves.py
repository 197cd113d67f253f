"""The points of the page's two charts: P(D), and the best distance against the passes spent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from foolart.evaluation.characteristic import OperatingCharacteristic, Sample, by_line
from foolart.evaluation.records import Curve
from foolart.evaluation.reporting import words
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.statistics import Floats, Integers, jsonable
from foolart.evaluation.summary import Line, Task

POINTS = 400  # Enough for any screen; the tables are computed from all points.


def operating(contents: Contents) -> list[dict[str, Any]]:
    """P(D) of every line with results, by task, exact at each point that is kept.

    Returns:
        For each task its name and its series: label, attack, variant, the distances ``x`` at which
        P jumps to ``y``, and the half-width of the confidence band.
    """
    lines = by_line(contents.records)
    tasks: dict[Task, list[dict[str, Any]]] = {}
    for row in contents.summary.rows:
        if row.line not in lines or row.correct == 0:
            continue
        sample = Sample.of(lines[row.line], contents.norm)
        curve = OperatingCharacteristic.of(sample, contents.confidence)
        keep = thin(len(curve.distances))
        series = {
            "x": _digits(curve.distances[keep]),
            "y": _digits(curve.probability[keep]),
            "half": curve.half_width,
        }
        tasks.setdefault(row.line.task, []).append(_named(row.line) | series)
    return [{"name": words.task(task), "series": series} for task, series in tasks.items()]


def anytime(contents: Contents) -> list[dict[str, Any]]:
    """Median best distance and share of images fooled against the passes spent, by task.

    Only images that the model classifies correctly count. An image without success so far is at
    infinite distance, so that a median curve begins where half of the images are fooled.

    Returns:
        For each task its name and its series: label, attack, variant, passes ``x``, and at each
        the median distance ``y`` (None if infinite) and the share ``share``.
    """
    known = {(curve.comparison, curve.image): curve for curve in contents.curves}
    watched = {Line.of(curve.comparison) for curve in contents.curves}
    lines: dict[Line, list[Curve]] = defaultdict(list)
    for record in contents.records:
        line, key = Line.of(record.comparison), (record.comparison, record.image)
        if line in watched and record.correct and not record.broken:
            # Nothing is recorded of an image that was never fooled.
            lines[line].append(known.get(key, Curve(*key, (), ())))
    order = {row.line: k for k, row in enumerate(contents.summary.rows)}
    tasks: dict[Task, list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: (order.get(line, len(order)), line)):
        queries, best = best_at(lines[line])
        if len(queries) == 0:
            continue
        series = {
            "x": queries.tolist(),
            "y": _digits(np.quantile(best, 0.5, axis=0, method="inverted_cdf")),
            "share": _digits(np.isfinite(best).mean(axis=0)),
        }
        # All are raw, so that the attack alone tells them apart.
        tasks.setdefault(line.task, []).append(_named(line) | {"label": line.attack} | series)
    return [{"name": words.task(task), "series": series} for task, series in tasks.items()]


def best_at(curves: Sequence[Curve]) -> tuple[Integers, Floats]:
    """The best distance of each image after so many passes.

    Returns:
        Passes at which any image improved, thinned ``(Q,)``, and the distances ``(images, Q)``,
        infinite before an image's first success.
    """
    everything = sorted({q for curve in curves for q in curve.queries})
    queries = np.array(everything, dtype=np.int64)[thin(len(everything))]
    best = np.full((len(curves), len(queries)), np.inf)
    for row, curve in zip(best, curves, strict=True):
        place = np.searchsorted(curve.queries, queries, side="right")
        row[place > 0] = np.asarray(curve.distances)[place[place > 0] - 1]
    return queries, best


def thin(n: int, points: int = POINTS) -> Integers:
    """At most ``points`` indices of ``n``, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, points)).round().astype(np.int64))


def _named(line: Line) -> dict[str, Any]:
    return {"label": words.attack(line), "attack": line.attack, "variant": line.variant}


def _digits(values: Floats) -> list[float | None]:
    # Five digits are beyond any screen's resolution and halve the size of the page.
    rounded: list[float | None] = jsonable([float(f"{value:.5g}") for value in values])
    return rounded
