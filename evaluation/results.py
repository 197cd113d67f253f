"""A run's results, finished or not: read from its folder, summed up, written for people."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from foolart.evaluation.plan import Plan, comparisons
from foolart.evaluation.protocol import summarize
from foolart.evaluation.records import Comparison, Curve, Record, write_records
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.store import Damaged, Store
from foolart.evaluation.summary import Summary

PLAN = "plan.json"


@dataclass(frozen=True)
class Timing:
    """What a comparison cost; unlike everything else, it differs from run to run.

    Attributes:
        comparison: The line of the results table.
        images: Number of images that were attacked.
        seconds: Time spent on them, the variant included.
        peak_bytes: Largest amount of memory needed: what PyTorch allocated on a GPU, or the
            resident memory of the process.
        notes: What happened on the way, such as memory running out.
    """

    comparison: Comparison
    images: int
    seconds: float
    peak_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """Everything that a results folder holds.

    Attributes:
        folder: The folder.
        scenario: What was asked for.
        requested: All comparisons that were asked for, in the order of the scenario.
        records: What is known of every image.
        curves: The anytime curves.
        timings: What every comparison cost.
        errors: What is missing or went wrong, by comparison.
        traces: The tracebacks of everything that broke, each once.
        environment: Versions, machine and command of the run.
        done: Number of work units that are finished.
        total: Number of work units that there are.
    """

    folder: Path
    scenario: Scenario
    requested: tuple[Comparison, ...]
    records: tuple[Record, ...]
    curves: tuple[Curve, ...]
    timings: tuple[Timing, ...]
    errors: dict[Comparison, str]
    traces: tuple[str, ...]
    environment: dict[str, Any]
    done: int
    total: int

    @classmethod
    def load(cls, folder: str | Path, scenario: Scenario | None = None) -> Results:
        """Read a results folder, while the run goes on or afterwards.

        Args:
            folder: The folder.
            scenario: Its scenario, if it is at hand.

        Raises:
            ValueError: If it is no results folder.
        """
        store = Store(Path(folder))
        if not (store.folder / "scenario.toml").is_file():
            raise ValueError(
                f"{folder} is no results folder of foolart: it holds no scenario.toml (working "
                f"directory: {Path.cwd()})"
            )
        scenario = scenario or Scenario.load(store.folder / "scenario.toml")
        try:
            plan = Plan.from_json(store.read_json(PLAN))
            environment = store.read_json("environment.json")
        except (OSError, Damaged) as error:
            raise ValueError(
                f"{folder} is no results folder of foolart, or an incomplete one ({error})"
            ) from error
        return _collect(store, scenario, plan, environment)

    @functools.cached_property
    def summary(self) -> Summary:
        """The numbers of all tables."""
        return summarize(
            self.records,
            requested=self.requested,
            errors=self.errors,
            budgets=self.scenario.budgets,
        )

    @property
    def complete(self) -> bool:
        """Whether every comparison was computed and none broke."""
        return not self.errors and not any(record.broken for record in self.records)

    def write(self) -> None:
        """Write the tables: ``per_image.csv``, ``summary.json`` and ``timings.json``.

        Raises:
            OSError: If they cannot be written.
        """
        store = Store(self.folder)
        write_records(self.records, self.folder / "per_image.csv")
        store.write_json("summary.json", self.summary.as_json())
        timings = [{**t.comparison._asdict(), **_without(asdict(t))} for t in self.timings]
        store.write_json("timings.json", timings)


def _without(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "comparison"}


def _collect(store: Store, scenario: Scenario, plan: Plan, environment: dict[str, Any]) -> Results:
    requested = {line: None for unit in plan.units for line in comparisons(scenario, unit)}
    records: dict[Comparison, list[Record]] = {line: [] for line in requested}
    curves: dict[Comparison, list[Curve]] = {line: [] for line in requested}
    troubles: dict[Comparison, Counter[str]] = defaultdict(Counter)
    costs: dict[Comparison, list[Any]] = defaultdict(lambda: [0, 0.0, 0, {}])
    traces: dict[str, None] = {}
    done = 0
    for unit in plan.units:
        lines = {line.variant: line for line in comparisons(scenario, unit)}
        try:
            body = store.read_unit(unit.name)
        except Damaged:
            body, trouble = None, "results file damaged: foolart resume computes it again"
        else:
            trouble = "not computed yet: foolart resume goes on"
        if body is None:
            for line in lines.values():
                troubles[line][trouble] += unit.stop - unit.start
            continue
        done += not body["broken"]
        traces |= dict.fromkeys(body["traces"])
        for variant, found in _records(lines, body).items():
            records[lines[variant]] += found
        if "raw" in lines and not unit.source:
            curves[lines["raw"]] += [
                Curve(lines["raw"], unit.start + k, tuple(queries), tuple(distances))
                for k, queries, distances in body["curves"]
            ]
        _add_costs(costs, lines, body)
    errors = {
        line: "; ".join(f"{count} images {what}" for what, count in found.items())
        for line, found in troubles.items()
    }
    timings = [
        Timing(line, images, seconds, peak, tuple(notes))
        for line, (images, seconds, peak, notes) in costs.items()
    ]
    order = {line: number for number, line in enumerate(requested)}
    image = operator.attrgetter("image")
    return Results(
        folder=store.folder,
        scenario=scenario,
        requested=tuple(requested),
        records=tuple(r for found in records.values() for r in sorted(found, key=image)),
        curves=tuple(c for found in curves.values() for c in sorted(found, key=image)),
        timings=tuple(sorted(timings, key=lambda t: order[t.comparison])),
        errors=errors,
        traces=tuple(traces),
        environment=environment,
        done=done,
        total=len(plan.units),
    )


def _records(lines: dict[str, Comparison], body: dict[str, Any]) -> dict[str, list[Record]]:
    columns = dict(body["columns"])
    del columns["row"]
    variants = columns.pop("variant")
    for name in ("distance", "distance_linf"):
        columns[name] = [math.nan if value is None else value for value in columns[name]]
    names = [field.name for field in fields(Record) if field.name in columns]
    found: dict[str, list[Record]] = {variant: [] for variant in lines}
    for variant, *values in zip(variants, *(columns[name] for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        found[variant].append(Record(**lines[variant]._asdict(), **row))
    return found


def _add_costs(
    costs: dict[Comparison, list[Any]],
    lines: dict[str, Comparison],
    body: dict[str, Any],
) -> None:
    seconds = body["seconds"]
    columns = body["columns"]
    for variant, line in lines.items():
        cost = costs[line]
        attacked = zip(columns["variant"], columns["correct"], strict=True)
        cost[0] += sum(correct for own, correct in attacked if own == variant)
        cost[1] += seconds.get("attack", 0.0) + seconds.get(variant, 0.0)
        cost[2] = max(cost[2], body["peak"])
        cost[3] |= dict.fromkeys(body["notes"])
