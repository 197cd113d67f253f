"""What is left of a model under all attacks at once: the honest number for a defence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from foolart.evaluation.characteristic import NORMS
from foolart.evaluation.gradient_checks import GRADIENT_THREATS, signs
from foolart.evaluation.records import Record
from foolart.evaluation.statistics import Estimate, wilson
from foolart.evaluation.summary import Robustness

THREATS = ("transfer", *GRADIENT_THREATS, "decision")


def robustness(
    records: Iterable[Record], *, budget: float, norm: str = "l2", confidence: float = 0.95
) -> tuple[Robustness, ...]:
    """Robust accuracy by defence and threat model, and the per-image worst case over all of them.

    Where 8-bit variants were run, raw ones do not count: the attacker has to hand in an image.

    Args:
        records: The rows of a run.
        budget: The distance within which an adversarial counts, inputs scaled to [0, 1].
        norm: The norm of that distance.
        confidence: Nominal coverage of Wilson's intervals.

    Returns:
        One entry for each data set, model and defence, in the order of their first rows.
    """
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        if not record.broken:
            groups[record.data, record.model, record.defence].append(record)
    found = []
    for (data, model, defence), rows in groups.items():
        clean = _mean_by_image({i: [r.correct for r in own] for i, own in _by_image(rows).items()})
        digital = [row for row in rows if row.variant != "raw"] or rows
        threats: dict[str, list[Record]] = defaultdict(list)
        for row in digital:
            threats[row.threat].append(row)
        found.append(
            Robustness(
                data,
                model,
                defence,
                budget,
                images=len(_by_image(rows)),
                clean=wilson(clean, len(_by_image(rows)), confidence),
                threats={
                    threat: _accuracy(own, budget, norm, confidence)
                    for threat, own in sorted(threats.items(), key=lambda item: order(item[0]))
                },
                worst=_accuracy(digital, budget, norm, confidence),
                flags=signs(digital, budget=budget, norm=norm),
            )
        )
    return tuple(found)


def order(threat: str) -> tuple[int, str]:
    """The place of a threat model in tables: transfer, gradients, decisions, then others."""
    return THREATS.index(threat) if threat in THREATS else len(THREATS), threat


def _accuracy(rows: Sequence[Record], budget: float, norm: str, confidence: float) -> Estimate:
    """The share of the images that every row got right: correct, and not fooled within budget."""

    def stands(row: Record) -> bool:
        return row.correct and not (row.success and getattr(row, NORMS[norm]) <= budget)

    images = {i: [all(stands(row) for row in own)] for i, own in _by_image(rows).items()}
    return wilson(_mean_by_image(images), len(images), confidence)


def _by_image(rows: Iterable[Record]) -> dict[int, list[Record]]:
    images: dict[int, list[Record]] = defaultdict(list)
    for row in rows:
        images[row.image].append(row)
    return images


def _mean_by_image(images: Mapping[int, Sequence[bool]]) -> float:
    # A random defence may answer differently from row to row: average within the image first.
    return float(np.mean([np.mean(images[image]) for image in sorted(images)]))
