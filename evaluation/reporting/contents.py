"""What a report is made of: a run's records and everything that was noted beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from foolart.evaluation.protocol import Scores, summarize
from foolart.evaluation.records import Comparison, Curve, Record
from foolart.evaluation.reporting.scores import stored
from foolart.evaluation.results import Results, Timing
from foolart.evaluation.summary import Line, Summary


@dataclass(frozen=True)
class Cost:
    """What a line cost; it belongs to a machine and an hour, so that summaries leave it out.

    Attributes:
        seconds: Wall-clock seconds per image.
        memory: Peak memory in bytes; 0 if it was not measured.
    """

    seconds: float
    memory: int = 0


@dataclass(frozen=True)
class Contents:
    """What a report is made of.

    Attributes:
        records: The rows of ``per_image.csv``.
        requested: All comparisons that were asked for.
        errors: What went wrong with a comparison, if anything.
        curves: Anytime curves, as far as they were recorded.
        perception: Perceptual scores, as far as they were computed.
        costs: What the lines cost.
        environment: Versions, machine and the like, by name.
        command: The command that made the run.
        scenario: The scenario as TOML.
        title: What the page is called.
        budgets: Distances at which P_upp is given, the first of which leads.
        norm: Which distance is reported, ``"l2"`` or ``"linf"``.
        confidence: Nominal coverage of all intervals.
        folder: Where the pictures lie that the records name; None for none.
        progress: Finished and planned work units; equal when the run is complete.
    """

    records: Sequence[Record]
    requested: Sequence[Comparison] = ()
    errors: Mapping[Comparison, str] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    perception: Scores = field(default_factory=dict)
    costs: Mapping[Line, Cost] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    scenario: str = ""
    title: str = "Robustness report"
    budgets: Sequence[float] = (1.0,)
    norm: str = "l2"
    confidence: float = 0.95
    folder: Path | None = None
    progress: tuple[int, int] = (0, 0)

    @cached_property
    def summary(self) -> Summary:
        """The numbers of all tables."""
        return summarize(
            self.records,
            requested=self.requested,
            errors=self.errors,
            perception=self.perception,
            budgets=self.budgets,
            norm=self.norm,
            confidence=self.confidence,
        )

    def with_perception(self, scores: Scores) -> Contents:
        """The same contents with other perceptual scores."""
        return replace(self, perception=scores)

    @classmethod
    def of(cls, results: Results, perception: Scores | None = None) -> Contents:
        """The contents of a results folder.

        Args:
            results: The results, finished or not.
            perception: Perceptual scores; by default those that the folder holds.
        """
        if perception is None:
            perception = stored(results.folder, results.records)
        environment = dict(results.environment)
        return cls(
            results.records,
            requested=results.requested,
            errors=results.errors,
            curves=results.curves,
            perception=perception,
            costs=_costs(results.timings),
            command=str(environment.pop("command", "")),
            environment=environment,
            scenario=results.scenario.to_toml(),
            title=results.scenario.name,
            budgets=results.scenario.budgets,
            folder=results.folder,
            progress=(results.done, results.total),
        )


def _costs(timings: Iterable[Timing]) -> dict[Line, Cost]:
    """What the lines cost: seconds over all seeds, memory at its highest."""
    found: dict[Line, list[Timing]] = {}
    for timing in timings:
        found.setdefault(Line.of(timing.comparison), []).append(timing)
    return {
        line: Cost(
            sum(timing.seconds for timing in own) / max(1, sum(timing.images for timing in own)),
            max(timing.peak_bytes for timing in own),
        )
        for line, own in found.items()
    }
