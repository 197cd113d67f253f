"""What there is to compute: the work units of a scenario, each named by a hash of its content."""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from foolart.evaluation.data import Part
from foolart.evaluation.fairness import Check
from foolart.evaluation.records import Comparison
from foolart.evaluation.scenario import Scenario


@dataclass(frozen=True)
class Unit:
    """A piece of work: one attack on some images of one data set under one model.

    Attributes:
        name: Hash of everything that its result depends on.
        data: Index of the data set in the scenario.
        start: First row.
        stop: Row after the last.
        model: Index of the model.
        defence: Index of the defence, or -1.
        attack: Index of the attack.
        seed: The seed.
        source: For a transfer: the name of the unit that made the adversarials, else empty.
        source_model: For a transfer: index of the model that they were made on.
        source_defence: For a transfer: index of its defence, or -1.
        threat: The threat model.
    """

    name: str
    data: int
    start: int
    stop: int
    model: int
    defence: int
    attack: int
    seed: int
    source: str = ""
    source_model: int = -1
    source_defence: int = -1
    threat: str = "white-box"


@dataclass(frozen=True)
class Plan:
    """All units of a scenario.

    Attributes:
        code: Version of the code that made it, see :func:`code_version`.
        units: In the order of computation; transfers come after their sources.
        checks: For each attack, by index, what the self-check found out about it.
        inputs: Hashes of the models, defences, data and attacks that it was made for, by name;
            empty in plans of older releases.
    """

    code: str
    units: tuple[Unit, ...]
    checks: tuple[Check, ...]
    inputs: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The plan as plain dictionaries and lists."""
        return {
            "code": self.code,
            "units": [list(vars(unit).values()) for unit in self.units],
            "checks": [vars(check) for check in self.checks],
            "inputs": self.inputs,
        }

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Plan:
        """The plan that :meth:`as_json` wrote."""
        units = tuple(Unit(*values) for values in table["units"])
        checks = tuple(
            Check(tuple(found["flags"]), found["ratio"], found["alone"])
            for found in table["checks"]
        )
        return cls(table["code"], units, checks, dict(table.get("inputs", {})))


def comparisons(scenario: Scenario, unit: Unit) -> Iterator[Comparison]:
    """The lines of the results table that a unit contributes to."""
    for variant in variants(scenario, unit):
        yield Comparison(
            data=scenario.data[unit.data].label,
            model=scenario.models[unit.model].label,
            attack=scenario.attacks[unit.attack].label,
            variant=variant,
            defence="" if unit.defence < 0 else scenario.defences[unit.defence].label,
            threat=unit.threat,
            source=scenario.models[unit.source_model if unit.source else unit.model].label,
            seed=unit.seed,
        )


def variants(scenario: Scenario, unit: Unit) -> list[str]:
    """The variants of a unit: what is transferred is stored, and hence has 8 bits."""
    return [v for v in scenario.variants if not (unit.source and v == "raw")]


def cut(count: int, shards: int, size: int) -> list[tuple[int, int]]:
    """Cut rows into shards of equal size, give or take one, and those into pieces."""
    bounds = [count * k // shards for k in range(shards + 1)]
    return [
        (start, min(start + size, stop))
        for first, stop in itertools.pairwise(bounds)
        for start in range(first, stop, size)
    ]


def units(
    scenario: Scenario,
    parts: list[Part],
    models: dict[tuple[int, int, int], str],
    attacks: list[str],
    threats: Callable[[int, int, int], Sequence[str]],
) -> list[Unit]:
    """All units of a scenario.

    Args:
        scenario: The scenario.
        parts: Its data sets.
        models: Hash of the model by index of data set, model and defence.
        attacks: For each attack a text of all that its results depend on.
        threats: Gives the threat models of the model, defence and attack with these indices.
    """
    size = scenario.run.batch_size or scenario.compute_batch
    same = {
        key: value
        for key, value in scenario.configuration().items()
        if key not in ("models", "data", "attacks", "defences", "seeds", "threats")
    }
    common = [2, code_version(), same]
    own, transfers = [], []
    for d, part in enumerate(parts):
        rows = cut(len(part), scenario.run.shards, size)
        shards = [(start, stop, digest(part.hashes[start:stop])) for start, stop in rows]
        targets = [(m, f) for (i, m, f) in models if i == d]
        for m, f in targets:
            for (start, stop, shard), a, seed in itertools.product(
                shards, range(len(attacks)), scenario.seeds
            ):
                for threat in threats(m, f, a):
                    unit = Unit("", d, start, stop, m, f, a, seed, threat=threat)
                    # File names within the unit hold the labels: they are part of the result.
                    line = next(comparisons(scenario, unit))
                    labels = (line.data, line.model, line.defence, line.attack, threat)
                    content = (common, shard, start, models[d, m, f], attacks[a], seed, labels)
                    own.append(replace(unit, name=digest(*content)))
        if "transfer" in scenario.threats:
            transfers += [
                replace(
                    unit,
                    name=digest("transfer", unit.name, models[d, m, f]),
                    model=m,
                    defence=f,
                    source=unit.name,
                    source_model=unit.model,
                    source_defence=unit.defence,
                    threat="transfer",
                )
                for unit in own
                for m, f in targets
                if unit.data == d and unit.defence < 0 and (unit.model, unit.defence) != (m, f)
            ]
    # By target, so that a worker that holds one model at a time loads each once.
    return own + sorted(transfers, key=lambda unit: (unit.model, unit.defence))


@functools.cache
def code_version() -> str:
    """Versions of what computes results, and a hash of this package's own sources."""
    content = hashlib.sha256()
    for package in ("plugins", "adapters", "evaluation"):
        module = importlib.import_module(f"foolart.{package}")
        for path in sorted(Path(module.__path__[0]).rglob("*.py")):
            if package != "evaluation" or path.stem in COMPUTING:
                content.update(path.read_bytes())
    names = ("foolart", "torch", "foolbox", "eagerpy", "numpy")
    versions = [f"{name} {metadata.version(name)}" for name in names]
    return ", ".join([*versions, f"sources {content.hexdigest()[:12]}"])


# The modules of this folder that results depend on; the others only arrange and show them.
COMPUTING = (
    "adaptive",
    "attack_names",
    "baselines",
    "batches",
    "catalogue",
    "compute",
    "counting",
    "defences",
    "judge",
    "models",
    "pixels",
    "randomness",
    "tables",
)


def stable_repr(value: object) -> str:
    """The ``repr`` without addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def digest(*parts: Any) -> str:
    """A short hash of plain values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
