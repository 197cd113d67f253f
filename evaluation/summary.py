"""What a run's tables say: plain data, computed by the protocol and rendered by the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from foolart.evaluation.pairing import Wins
from foolart.evaluation.records import Comparison
from foolart.evaluation.statistics import UNKNOWN, Estimate, jsonable


class Task(NamedTuple):
    """What attacks share that compete with each other."""

    data: str
    model: str
    defence: str
    threat: str
    source: str


class Line(NamedTuple):
    """A comparison with its seeds taken together: what one line of the tables is about."""

    data: str
    model: str
    attack: str
    variant: str
    defence: str
    threat: str
    source: str

    @classmethod
    def of(cls, comparison: Comparison) -> Line:
        """The line that a comparison belongs to."""
        return cls(*(getattr(comparison, name) for name in cls._fields))

    @classmethod
    def at(cls, task: Task, attack: str, variant: str) -> Line:
        """The line of an attack on a task."""
        return cls(attack=attack, variant=variant, **task._asdict())

    @property
    def task(self) -> Task:
        """What this line's attack competes in."""
        return Task(self.data, self.model, self.defence, self.threat, self.source)

    @property
    def digital(self) -> bool:
        """Whether the adversarials are 8-bit images by construction."""
        return self.variant != "raw"


@dataclass(frozen=True)
class Row:
    """The numbers of one line.

    Attributes:
        line: What the numbers are about.
        images: Number of distinct images, misclassified ones included.
        correct: Number of distinct images that count: N.
        seeds: Number of seeds.
        p_suc: Success probability with Wilson's interval.
        mean: Mean distance of the successes with a percentile bootstrap interval.
        standard_error: Standard error of that mean.
        median: Median distance of the successes.
        quantiles: For each level p the distance D at which P(D) reaches p, failures included.
        p_upp: For each budget the success probability within it, with Wilson's interval.
        mean_other_norm: Mean distance of the successes in the norm that the summary is not in.
        forwards: Mean forward passes per image that counts.
        backwards: Mean backward passes per image that counts.
        optimality: AttackBench's local optimality among the attacks on the same task: 8-bit
            variants among 8-bit results, raw ones among all.
        flags: For each flag the number of rows that carry it.
        perception: For each perceptual score its mean, median, share of zeros and count over the
            successes.
        broken: Number of rows that were never measured; they count nowhere else.
        error: Why there are no numbers, or fewer than requested; empty if all is well.
    """

    line: Line
    images: int = 0
    correct: int = 0
    seeds: int = 0
    p_suc: Estimate = UNKNOWN
    mean: Estimate = UNKNOWN
    standard_error: float | None = None
    median: Estimate = UNKNOWN
    quantiles: dict[str, Estimate] = field(default_factory=dict)
    p_upp: dict[str, Estimate] = field(default_factory=dict)
    mean_other_norm: float | None = None
    forwards: float | None = None
    backwards: float | None = None
    optimality: Estimate = UNKNOWN
    flags: dict[str, int] = field(default_factory=dict)
    perception: dict[str, dict[str, float | None]] = field(default_factory=dict)
    broken: int = 0
    error: str = ""


@dataclass(frozen=True)
class Clean:
    """The accuracy of a model under a defence, without attack."""

    data: str
    model: str
    defence: str
    images: int
    accuracy: Estimate


@dataclass(frozen=True)
class Group:
    """The paired wins among the attacks on one task, all in the same variant."""

    task: Task
    variant: str
    wins: tuple[Wins, ...]


@dataclass(frozen=True)
class Global:
    """AttackBench's global optimality: the mean of an attack's local ones over the models."""

    data: str
    attack: str
    variant: str
    defence: str
    threat: str
    models: int
    optimality: Estimate


@dataclass(frozen=True)
class Robustness:
    """A defence under every threat model.

    Attributes:
        data: Name of the data set.
        model: Name of the model.
        defence: Name of the defence, empty for none.
        budget: The distance within which an adversarial counts.
        images: Number of images, misclassified ones included.
        clean: Accuracy without attack.
        threats: For each threat model the share of the images that are classified correctly and
            that no attack of this threat model fools within the budget.
        worst: The same for all threat models together: the headline.
        flags: What the gradient checks found: reasons to believe that it is lower still.
    """

    data: str
    model: str
    defence: str
    budget: float
    images: int
    clean: Estimate
    threats: dict[str, Estimate]
    worst: Estimate
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """Everything that the tables of a run say; equal records give equal summaries.

    Attributes:
        norm: The norm of the distances, ``"l2"`` or ``"linf"``, with inputs scaled to [0, 1].
        confidence: Nominal coverage of all intervals.
        budgets: The distances at which P_upp is given.
        rows: One for each requested line, in the order of the request.
        clean: One for each data set, model and defence.
        wins: One for each task and variant with at least two attacks.
        optimality: Global optimality, where there is more than one model.
        robustness: Each defence under every threat model, at the first budget.
    """

    norm: str
    confidence: float
    budgets: tuple[float, ...]
    rows: tuple[Row, ...]
    clean: tuple[Clean, ...]
    wins: tuple[Group, ...]
    optimality: tuple[Global, ...]
    robustness: tuple[Robustness, ...]

    def as_json(self) -> dict[str, Any]:
        """The summary as plain dictionaries and lists, for ``summary.json``."""
        plain: dict[str, Any] = jsonable(_plain(self))
        return plain


def _plain(value: Any) -> Any:
    return asdict(value, dict_factory=lambda pairs: {k: _named(v) for k, v in pairs})


def _named(value: Any) -> Any:
    # asdict keeps named tuples; a reader of the JSON wants their names.
    return value._asdict() if isinstance(value, Line | Task) else value
