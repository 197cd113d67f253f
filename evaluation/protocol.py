"""The evaluation protocol: a run's records become the numbers of its tables.

Following the thesis's section 3.3 [#Zha]_, only images that the model classifies correctly count
(N), failures stay in the success probability, and distortion is conditioned on success::

    P_suc = N_suc / N        D-bar = mean of D(x) over the successes        (3.1)
    P(D)  = |{x in X_suc : D(x) <= D}| / N        P_upp = P(D_upp)          (3.2)

Seeds are taken together: their rows enter the point estimates alike, while every interval counts
the images, since the seeds of one image are no independent observations.

References:
    .. [#Zha] Zhang, "Adversarial robustness in image classification", PhD thesis, chapter 3.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from foolart.evaluation.characteristic import NORMS, Sample, by_line
from foolart.evaluation.optimality import envelope, global_optimality, local_optimality
from foolart.evaluation.pairing import Distances, paired_wins
from foolart.evaluation.records import Comparison, Record
from foolart.evaluation.statistics import (
    UNKNOWN,
    Estimate,
    Floats,
    Integers,
    finite,
    percentile_interval,
    quantile,
    resamples,
    standard_error,
    weighted_sums,
    wilson,
)
from foolart.evaluation.summary import Clean, Global, Group, Line, Row, Summary, Task
from foolart.evaluation.worst_case import robustness

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)

Scores = Mapping[tuple[Comparison, int], Mapping[str, float]]
"""The perceptual scores of the adversarial of each comparison and image."""


def summarize(
    records: Iterable[Record],
    *,
    requested: Iterable[Comparison] = (),
    errors: Mapping[Comparison, str] | None = None,
    perception: Scores | None = None,
    budgets: Sequence[float] = (1.0,),
    norm: str = "l2",
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Summary:
    """Compute everything that a run's tables say.

    Args:
        records: The rows of ``per_image.csv``, in any order.
        requested: All comparisons that were asked for; one without records gets a line saying so.
        errors: What went wrong with a comparison, if anything.
        perception: The perceptual scores, as far as they were computed.
        budgets: Distances at which to give P_upp, with inputs scaled to [0, 1]; the first is that
            of robust accuracy.
        norm: Which distance to report: ``"l2"`` or ``"linf"``.
        confidence: Nominal coverage of all intervals.
        draws: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: For an unknown norm, budgets that are no distances, or duplicate records.
    """
    if norm not in NORMS:
        raise ValueError(f"expected norm to be one of {', '.join(NORMS)}, got {norm!r}")
    if not budgets or not all(budget > 0 and np.isfinite(budget) for budget in budgets):
        raise ValueError(f"expected at least one budget, positive and finite, got {tuple(budgets)}")
    records = list(records)
    lines = by_line(records)
    samples = {line: Sample.of(rows, norm) for line, rows in lines.items()}
    optimality = _local(samples, draws=draws, seed=seed, confidence=confidence)
    asked: dict[Line, list[Comparison]] = defaultdict(list)
    for comparison in requested:
        asked[Line.of(comparison)].append(comparison)
    rows = []
    for line in dict.fromkeys([*asked, *lines]):
        row = Row(line, error=_error(lines.get(line, []), asked[line], errors or {}))
        if line in lines:
            row = replace(
                _row(row, lines[line], samples[line], budgets, norm, confidence),
                mean=_mean(samples[line], draws, seed, confidence),
                optimality=optimality[line],
                perception=_perception(lines[line], perception or {}),
            )
        rows.append(row)
    ordered = [record for row in rows for record in lines.get(row.line, ())]
    return Summary(
        norm=norm,
        confidence=confidence,
        budgets=tuple(budgets),
        rows=tuple(rows),
        clean=_clean(lines, confidence),
        wins=_wins(samples),
        optimality=_global(rows),
        robustness=robustness(ordered, budget=budgets[0], norm=norm, confidence=confidence),
    )


def _error(
    records: Sequence[Record], asked: Sequence[Comparison], errors: Mapping[Comparison, str]
) -> str:
    """What is wrong with a line, in one sentence for each sort of trouble."""
    found = [errors[comparison] for comparison in asked if comparison in errors]
    broken = [record for record in records if record.broken]
    if broken:
        reasons = Counter(record.flags.removeprefix("broken:").strip() for record in broken)
        found += [f"{count} of {len(records)} images: {why}" for why, count in reasons.items()]
    elif not records and not found:
        found.append("no results yet")
    missing = {comparison.seed for comparison in asked} - {record.seed for record in records}
    if records and missing:
        found.append(f"no results for the seeds {sorted(missing)}")
    return "; ".join(dict.fromkeys(found))


def _row(
    row: Row,
    records: Sequence[Record],
    sample: Sample,
    budgets: Sequence[float],
    norm: str,
    confidence: float,
) -> Row:
    measured = [record for record in records if not record.broken]
    n, rows, found = sample.n, max(1, len(sample.distances)), sample.found
    other = Sample.of(records, "linf" if norm == "l2" else "l2").found.distances
    flags = Counter(flag for record in measured for flag in record.flags.split(";") if flag)
    median = quantile(found.distances, 0.5, found.n, confidence)
    return replace(
        row,
        images=len({record.image for record in measured}),
        correct=n,
        seeds=len({record.seed for record in measured}),
        p_suc=wilson(len(found.distances) / rows, n, confidence),
        standard_error=standard_error(found.distances, found.images),
        median=replace(median, value=_average(found.distances, np.median)),
        quantiles={f"{q:g}": quantile(sample.distances, q, n, confidence) for q in LEVELS},
        p_upp={
            f"{budget:g}": wilson(float((sample.distances <= budget).sum()) / rows, n, confidence)
            for budget in budgets
        },
        mean_other_norm=_average(other),
        forwards=_average([record.forwards for record in measured if record.correct]),
        backwards=_average([record.backwards for record in measured if record.correct]),
        flags=dict(sorted(flags.items())),
        broken=len(records) - len(measured),
    )


def _average(values: Any, how: Any = np.mean) -> float | None:
    return finite(how(values)) if len(values) else None


def _mean(sample: Sample, draws: int, seed: int, confidence: float) -> Estimate:
    """The mean distance of the successes; the bootstrap draws images, failures among them."""
    success = np.isfinite(sample.distances)
    if not success.any():
        return UNKNOWN
    names, rows = np.unique(sample.images, return_inverse=True)
    total, number = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(total, rows[success], sample.distances[success])
    np.add.at(number, rows[success], 1)
    counts = resamples(len(names), draws if len(names) > 1 else 0, seed)
    with np.errstate(invalid="ignore"):
        spread = weighted_sums(counts, total) / weighted_sums(counts, number)
    return percentile_interval(spread, sample.distances[success].mean(), confidence)


def _perception(records: Sequence[Record], scores: Scores) -> dict[str, dict[str, float | None]]:
    columns: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.correct and record.success and not record.broken:
            for name, value in scores.get((record.comparison, record.image), {}).items():
                if not np.isnan(value):
                    columns[name].append(value)
    return {
        name: {
            "mean": _average(values),
            "median": _average(values, np.median),
            "zeros": values.count(0) / len(values),
            "count": float(len(values)),
        }
        for name, values in sorted(columns.items())
    }


def _clean(lines: Mapping[Line, Sequence[Record]], confidence: float) -> tuple[Clean, ...]:
    seen: dict[tuple[str, str, str], dict[int, list[bool]]]
    seen = defaultdict(lambda: defaultdict(list))
    for line, records in lines.items():
        for record in records:
            if not record.broken:
                seen[line.data, line.model, line.defence][record.image].append(record.correct)
    return tuple(
        Clean(*key, len(images), wilson(_share(images), len(images), confidence))
        for key, images in sorted(seen.items())
    )


def _share(images: Mapping[int, Sequence[bool]]) -> float:
    # A random defence may answer differently from row to row: average within the image first.
    return float(np.mean([np.mean(images[image]) for image in sorted(images)]))


def _wins(samples: Mapping[Line, Sample]) -> tuple[Group, ...]:
    tasks: dict[tuple[Task, str], dict[str, Distances]] = defaultdict(dict)
    for line, sample in samples.items():
        tasks[line.task, line.variant][line.attack] = sample.by_row()
    return tuple(
        Group(task, variant, tuple(paired_wins(attacks)))
        for (task, variant), attacks in tasks.items()
        if len(attacks) > 1
    )


def _local(samples: Mapping[Line, Sample], **settings: Any) -> dict[Line, Estimate]:
    tasks: dict[Task, dict[Line, tuple[Integers, Floats]]] = defaultdict(dict)
    for line, sample in samples.items():
        tasks[line.task][line] = (sample.images, sample.distances)
    found: dict[Line, Estimate] = {}
    for attacks in tasks.values():
        digital = {line: sample for line, sample in attacks.items() if line.digital}
        raw = {line: sample for line, sample in attacks.items() if not line.digital}
        # An 8-bit image is an admissible answer where any image is, not the other way round.
        found |= local_optimality(digital, **settings)
        found |= local_optimality(raw, best=envelope(attacks), **settings)
    return found


def _global(rows: Iterable[Row]) -> tuple[Global, ...]:
    found: dict[Line, list[Row]] = defaultdict(list)
    for row in rows:
        if not row.line.threat.startswith("transfer"):
            found[row.line._replace(model="", source="")].append(row)
    return tuple(
        Global(
            key.data,
            key.attack,
            key.variant,
            key.defence,
            key.threat,
            len(own),
            global_optimality([row.optimality for row in own]),
        )
        for key, own in sorted(found.items())
        if len(own) > 1
    )
