"""What changed from one run to another, image by image, and what of it is more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from foolart.evaluation.characteristic import NORMS, by_line
from foolart.evaluation.pairing import Distances, paired, signs
from foolart.evaluation.records import Record
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.page import flat
from foolart.evaluation.statistics import (
    Floats,
    finite,
    holm,
    jsonable,
    sign_test,
    signed_rank_test,
)
from foolart.evaluation.summary import Line


@dataclass(frozen=True)
class Change:
    """One line in two runs, on the images that count in both.

    Attributes:
        line: What is compared.
        images: Number of rows that both runs have.
        p_suc: Success probability before and after.
        gained: Rows that only the second run succeeded on.
        lost: Rows that only the first run succeeded on.
        p_success: McNemar's exact test on them, after Holm's correction over the report; of
            several seeds, which are no independent observations, the majority stands for an image.
        median: Median distance before and after, over the rows where both succeeded.
        closer: Images on which the second run came closer, failures being farthest.
        farther: Images on which the first did.
        p_distance: Wilcoxon's signed-rank test on the distances, after the same correction.
        passes: Mean forward plus backward passes before and after.
    """

    line: Line
    images: int
    p_suc: tuple[float | None, float | None]
    gained: int
    lost: int
    p_success: float
    median: tuple[float | None, float | None]
    closer: int
    farther: int
    p_distance: float
    passes: tuple[float | None, float | None]


@dataclass(frozen=True)
class Changes:
    """Everything that differs between two runs.

    Attributes:
        names: What the runs are called.
        alpha: Level of the tests: the chance that any of the changes called significant is none.
        lines: The lines that both runs have.
        only: Lines of one run alone, for each run.
        environment: What differs in how the runs were made, by name: before and after.
    """

    names: tuple[str, str]
    alpha: float
    lines: tuple[Change, ...]
    only: tuple[tuple[Line, ...], tuple[Line, ...]]
    environment: dict[str, tuple[str, str]]

    @property
    def significant(self) -> list[Change]:
        """The lines whose success or distance changed by more than chance."""
        return [
            change for change in self.lines if min(change.p_success, change.p_distance) < self.alpha
        ]

    def verdict(self, change: Change) -> str:
        """What changed significantly, in words; ``equal`` where nothing differs at all."""
        found = []
        if change.p_success < self.alpha:
            found.append("more success" if change.gained > change.lost else "less success")
        if change.p_distance < self.alpha:
            found.append("closer" if change.closer > change.farther else "farther away")
        if not found and not (change.gained or change.lost or change.closer or change.farther):
            return "equal" if change.passes[0] == change.passes[1] else "other passes only"
        return " and ".join(found)

    def as_json(self) -> dict[str, Any]:
        """The changes as plain dictionaries and lists, with the verdicts."""
        lines = [
            {**asdict(change), "line": change.line._asdict(), "verdict": self.verdict(change)}
            for change in self.lines
        ]
        plain: dict[str, Any] = jsonable(
            {
                "names": self.names,
                "alpha": self.alpha,
                "lines": lines,
                "only": [[line._asdict() for line in own] for own in self.only],
                "environment": self.environment,
            }
        )
        return plain


def compare(
    before: Contents,
    after: Contents,
    *,
    names: tuple[str, str] = ("A", "B"),
    alpha: float = 0.05,
) -> Changes:
    """Compare two runs line by line, on the images that both attacked.

    Images are matched by the hash of their pixels and label, so that the runs may have different
    rows. Only images that both models classify correctly count.

    Args:
        before: The first run.
        after: The second run; its norm is used.
        names: What to call them.
        alpha: Level of the tests, over the whole report.

    Raises:
        ValueError: If alpha is no probability between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha strictly between 0 and 1, got {alpha!r}")
    old, new = by_line(before.records), by_line(after.records)
    both = [line for line in new if line in old]
    lines = [_change(line, old[line], new[line], after.norm) for line in both]
    adjusted = holm([p for change in lines for p in (change.p_success, change.p_distance)])
    return Changes(
        names=names,
        alpha=alpha,
        lines=tuple(
            replace(change, p_success=adjusted[2 * k], p_distance=adjusted[2 * k + 1])
            for k, change in enumerate(lines)
        ),
        only=(
            tuple(line for line in old if line not in new),
            tuple(line for line in new if line not in old),
        ),
        environment=_environment(before, after),
    )


def _change(line: Line, old: Sequence[Record], new: Sequence[Record], norm: str) -> Change:
    images, a, b = paired(_distances(old, norm), _distances(new, norm))
    won, lost = np.isinf(a) & np.isfinite(b), np.isfinite(a) & np.isinf(b)
    common = np.isfinite(a) & np.isfinite(b)
    outcome = signs(images, a, b)
    better = signs(images, np.isinf(a).astype(np.float64), np.isinf(b).astype(np.float64))
    return Change(
        line=line,
        images=len(a),
        p_suc=(_mean(np.isfinite(a)), _mean(np.isfinite(b))),
        gained=int(won.sum()),
        lost=int(lost.sum()),
        p_success=sign_test(int((better > 0).sum()), int((better < 0).sum())),
        median=(_median(a[common]), _median(b[common])),
        closer=int((outcome > 0).sum()),
        farther=int((outcome < 0).sum()),
        p_distance=_distance_test(images, a, b),
        passes=(_passes(old), _passes(new)),
    )


def _distance_test(images: Sequence[Any], a: Floats, b: Floats) -> float:
    """Wilcoxon's test over the images: the median of its seeds stands for each."""
    _, rows = np.unique(np.asarray(images), return_inverse=True)
    if len(rows) > len(set(images)):
        a, b = (
            np.array([np.median(x[rows == row]) for row in range(rows.max() + 1)]) for x in (a, b)
        )
    return signed_rank_test(a, b)


def _distances(records: Iterable[Record], norm: str) -> Distances:
    """The distances by image hash and seed; equal images of a data set are told apart by order."""
    seen: Counter[tuple[str, int]] = Counter()
    found = {}
    for record in records:
        key = (record.image_hash, record.seed)
        seen[key] += 1
        if record.correct and not record.broken:
            value = getattr(record, NORMS[norm]) if record.success else np.inf
            name = f"{record.image_hash}.{seen[key]}"
            found[name, record.seed] = value if np.isfinite(value) else np.inf
    return found


def _passes(records: Iterable[Record]) -> float | None:
    return _mean(
        np.array([r.forwards + r.backwards for r in records if r.correct and not r.broken])
    )


def _mean(values: Any) -> float | None:
    return finite(np.mean(values)) if len(values) else None


def _median(values: Floats) -> float | None:
    return finite(np.median(values)) if len(values) else None


def _environment(before: Contents, after: Contents) -> dict[str, tuple[str, str]]:
    tables = [
        {
            **dict(flat(contents.environment)),
            "command": contents.command,
            "scenario": contents.scenario,
        }
        for contents in (before, after)
    ]
    names = dict.fromkeys([*tables[0], *tables[1]])
    found = {name: (tables[0].get(name, ""), tables[1].get(name, "")) for name in names}
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}
