"""What to compare with what: models x data x attacks x defences x seeds, from TOML or by hand."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from foolart.evaluation.records import VARIANTS
from foolart.evaluation.specs import Spec, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = {"models": "model", "data": "data set", "attacks": "attack", "defences": "defence"}
THREATS = ("white-box", "transfer", "adaptive")
UNSEEN = ("name", "description", "budgets", "run")  # results do not depend on these
EXECUTORS = ("local", "slurm", "submitit", "ray")


@dataclass(frozen=True)
class Run:
    """How a scenario is carried out: none of this changes results.

    Attributes:
        executor: ``local`` for this machine; ``slurm`` for a cluster, through submitit;
            ``submitit`` for submitit's own workers on this machine; ``ray`` for a Ray cluster, or
            a local one that it starts.
        workers: Number of worker processes; 0 computes in this one.
        batch_size: Images of a work unit: what a killed worker loses. None for the compute batch.
        shards: Number of parts that the data are cut into first.
        cluster: Parameters of submitit, such as ``slurm_partition`` and ``timeout_min``, or of
            ``ray.init``, such as ``address``.
    """

    executor: str = "local"
    workers: int = 0
    batch_size: int | None = None
    shards: int = 1
    cluster: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        if self.executor not in EXECUTORS:
            raise nearest("executor", self.executor, EXECUTORS)
        _positive("workers", self.workers, least=0)
        _positive("shards", self.shards)
        if self.batch_size is not None:
            _positive("batch_size", self.batch_size)


@dataclass(frozen=True)
class Scenario:
    """A description of a comparison; equal scenarios give equal results.

    Models, data, attacks and defences may be given as text (``"ddn(steps=100)"``), tables
    (``{"name": "ddn", "steps": 100}``), Python objects, or pairs of a name and an object.

    Attributes:
        name: What the report calls it.
        description: What it is for, in a line.
        models: The models under attack.
        data: The data sets.
        attacks: The attacks, each on every model and data set.
        defences: Defences around every model, in addition to none.
        variants: How adversarials are brought to 8 bits: some of ``raw``, ``rounded`` and
            ``lagrangian``.
        threats: ``white-box``; ``transfer`` for every adversarial of a model without defence on
            every other model and defence; ``adaptive`` for all that an attacker who knows a defence
            can do to its gradients, see :mod:`foolart.evaluation.adaptive`.
        seeds: Each is a run of its own; random numbers derive from it and the image's hash.
        budgets: L2 distances, inputs scaled to [0, 1], at which P_upp is reported.
        queries: Forward plus backward passes that an attack may spend on an image; None for no
            limit.
        compute_batch: Rows in every pass through a model. Float rounding depends on it, hence
            fewer images are padded to it and results are equal whatever the batch size and shards.
        threads: Threads of a worker on the CPU, which float rounding depends on too; None for
            PyTorch's own choice.
        device: ``cpu``, ``cuda`` or another device of PyTorch.
        images: Which adversarials to write as PNG: ``all`` or ``none``.
        anytime: Whether to record the best distance against the queries.
        run: How to carry it out.

    Raises:
        ValueError: For an unknown key, or a value that is not accepted.
    """

    models: Sequence[Any] = ("efficientnet-lite0",)
    data: Sequence[Any] = ("foolbox:imagenet",)
    attacks: Sequence[Any] = ()
    defences: Sequence[Any] = ()
    variants: Sequence[str] = VARIANTS
    threats: Sequence[str] = ("white-box",)
    seeds: Sequence[int] = (0,)
    budgets: Sequence[float] = (1.0,)
    queries: int | None = None
    compute_batch: int = 20
    threads: int | None = None
    device: str = "cpu"
    images: str = "all"
    anytime: bool = True
    name: str = "scenario"
    description: str = ""
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        """Check everything that can be checked without loading anything."""
        for key, kind in KINDS.items():
            specs = tuple(Spec.of(what, kind) for what in _several(getattr(self, key)))
            _distinct(key, [spec.label for spec in specs])
            object.__setattr__(self, key, specs)
        for key in ("models", "data", "attacks"):
            if not getattr(self, key):
                raise ValueError(f"scenario {self.name!r}: expected at least one of {key}")
        for key, accepted in (("variants", VARIANTS), ("threats", THREATS)):
            values = tuple(_several(getattr(self, key)))
            for value in values:
                if value not in accepted:
                    raise nearest(key.removesuffix("s"), value, accepted)
            if not values:
                raise ValueError(f"scenario {self.name!r}: expected at least one of {key}")
            _distinct(key, values)
            # One order for all, so that equal choices give equal files.
            object.__setattr__(self, key, tuple(v for v in accepted if v in values))
        if self.images not in ("all", "none"):
            raise ValueError(f"expected images to be all or none, got {self.images!r}")
        self._check_threats()
        _positive("compute_batch", self.compute_batch)
        for name in ("queries", "threads"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        seeds, budgets = _several(self.seeds), _several(self.budgets)
        for seed in seeds:
            _positive("seeds", seed, least=0)
        _distinct("seeds", [str(seed) for seed in seeds])
        for budget in budgets or [None]:
            if not (isinstance(budget, (int, float)) and 0 < budget < math.inf):
                raise ValueError(f"expected budgets > 0 and finite, got {budget!r}")
        object.__setattr__(self, "seeds", tuple(seeds))
        object.__setattr__(self, "budgets", tuple(float(budget) for budget in budgets))
        if isinstance(self.run, Mapping):
            object.__setattr__(self, "run", _known(Run, self.run, "in [run]"))
        if not isinstance(self.run, Run):
            raise ValueError(f"expected run to be a table, got {self.run!r}")

    def _check_threats(self) -> None:
        """Refuse threat models that there would be nothing to compute for."""
        if "adaptive" in self.threats and not self.defences:
            raise ValueError("threat adaptive is about defences, but none is given: add one")
        if "transfer" not in self.threats:
            return
        if self.images == "none" or self.variants == ("raw",):
            raise ValueError(
                "threat transfer reads the adversarial PNGs: it needs images = all, and rounded or "
                "lagrangian among the variants"
            )
        if len(self.models) == 1 and not self.defences:
            raise ValueError(
                "threat transfer tries adversarials on other models and behind defences, but there "
                "is one model and no defence: add one of them"
            )

    @classmethod
    def of(cls, what: Any) -> Scenario:
        """A scenario from itself, a table, a TOML file, or the name of a preset.

        Raises:
            ValueError: If there is no such file or preset, or its content is not accepted.
        """
        if isinstance(what, Scenario):
            return what
        if isinstance(what, Mapping):
            scenario: Scenario = _known(cls, what, "of a scenario")
            return scenario
        if isinstance(what, Path) or str(what).endswith(".toml"):
            return cls.load(Path(what))
        return cls.preset(str(what))

    @classmethod
    def load(cls, path: Path) -> Scenario:
        """Read a TOML file.

        Raises:
            ValueError: If it is missing, no TOML, or its content is not accepted.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"scenario {path}: cannot be read ({error})") from error
        return cls.parse(text, str(path))

    @classmethod
    def preset(cls, name: str) -> Scenario:
        """One of the scenarios that come with the package.

        Raises:
            ValueError: If there is no such preset.
        """
        known = presets()
        if name not in known:
            raise nearest("preset", name, known, "See `foolart list presets`.")
        return cls.parse(known[name], f"preset {name}")

    @classmethod
    def parse(cls, text: str, where: str) -> Scenario:
        """A scenario from TOML text.

        Raises:
            ValueError: If it is no TOML, or its content is not accepted.
        """
        try:
            return cls.of(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{where}: not valid TOML: {error}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def to_toml(self) -> str:
        """The scenario as TOML text; :meth:`parse` gives an equal one back."""
        import tomli_w

        return tomli_w.dumps(self.table())

    def table(self) -> dict[str, Any]:
        """The scenario as plain tables and lists; :meth:`of` gives an equal one back."""
        table: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in KINDS:
                value = [spec.table() for spec in value]
            elif item.name == "run":
                value = {k: v for k, v in vars(value).items() if v not in (None, {})}
            elif isinstance(value, tuple):
                value = list(value)
            if value is not None and value not in ([], ""):
                table[item.name] = value
        # Tables of tables come last in TOML.
        return dict(sorted(table.items(), key=lambda pair: _is_table(pair[1])))

    def configuration(self) -> dict[str, Any]:
        """All that results depend on: :meth:`table` without the rest."""
        table = self.table()
        return {key: table[key] for key in sorted(table) if key not in UNSEEN}

    def with_(self, **changes: Any) -> Scenario:
        """The same scenario with some attributes, or some of :class:`Run`'s, changed."""
        own = {field.name for field in fields(self)}
        run = {key: changes.pop(key) for key in list(changes) if key not in own}
        return replace(self, **changes, run=replace(self.run, **run))


def presets() -> dict[str, str]:
    """The TOML text of every preset by its name."""
    folder = files("foolart.evaluation") / "presets"
    found = {
        Path(item.name).stem: item.read_text(encoding="utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".toml")
    }
    return dict(sorted(found.items()))


def _known(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    names = [item.name for item in fields(cls)]
    for key in table:
        if key not in names:
            raise nearest(f"key {where}:", key, names)
    return cls(**table)


def _several(values: Any) -> list[Any]:
    alone = isinstance(values, (str, Spec, Mapping)) or not isinstance(values, Sequence)
    return [values] if alone else list(values)


def _distinct(key: str, labels: Sequence[str]) -> None:
    twice = sorted({label for label in labels if list(labels).count(label) > 1})
    if twice:
        raise ValueError(
            f"{key}: {', '.join(twice)} named twice: leave one out, or tell them apart by a label"
        )


def _positive(name: str, value: Any, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected {name} to be an integer >= {least}, got {value!r}")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    )
