"""The leaderboard: its order, and the columns that all its forms share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from foolart.evaluation.reporting import words
from foolart.evaluation.reporting.contents import Cost
from foolart.evaluation.summary import Row, Summary, Task


class Column(NamedTuple):
    """A column of the leaderboard.

    Attributes:
        head: Its heading.
        cell: Its text for a row and what the row cost.
        latex: Its heading in LaTeX.
        text: Whether it is set as text, to the left.
    """

    head: str
    cell: Callable[[Row, Cost | None], str]
    latex: str
    text: bool = False


SCORES = ("mad", "ssim", "psnr", "ciede2000", "lpips")
COSTS = (
    Column("s/image", lambda _, cost: words.seconds(cost.seconds if cost else None), "s/image"),
    Column("MB", lambda _, cost: words.memory(cost.memory if cost else None), "MB"),
)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows of one task, best first: 8-bit results before raw ones, lines without numbers last.

    A row is better for its optimality; ties go by success, then by the median distance, then
    by the passes spent.
    """

    def rank(row: Row) -> tuple[Any, ...]:
        optimality, median = row.optimality.value, row.median.value
        return (
            row.p_suc.value is None,
            not row.line.digital,
            1.0 if optimality is None else -optimality,
            -(row.p_suc.value or 0.0),
            float("inf") if median is None else median,
            (row.forwards or 0.0) + (row.backwards or 0.0),
            row.line,
        )

    return sorted(rows, key=rank)


def by_task(summary: Summary) -> dict[Task, list[Row]]:
    """The rows of each task, best first; tasks in the order of the request."""
    tasks: dict[Task, list[Row]] = {}
    for row in summary.rows:
        tasks.setdefault(row.line.task, []).append(row)
    return {task: ranked(rows) for task, rows in tasks.items()}


def columns(summary: Summary, timed: bool = False) -> list[Column]:
    """The leaderboard's columns: those of perceptual scores only where there are any.

    Args:
        summary: The numbers.
        timed: Whether to show seconds and memory, which do not repeat exactly.
    """
    norm = words.NORMS[summary.norm]
    latex = {"l2": "$L_2$", "linf": r"$L_\infty$"}[summary.norm]
    scores = [name for name in SCORES if any(name in row.perception for row in summary.rows)]
    return [
        Column("attack", lambda row, _: row.line.attack, "Attack", text=True),
        Column("8 bits", lambda row, _: words.variant(row.line.variant), "8 bits", text=True),
        Column("P_suc %", lambda row, _: words.rate(row.p_suc), r"$P_{\mathrm{suc}}$ (\%)"),
        Column(
            f"median {norm}", lambda row, _: words.distance(row.median.value), f"median {latex}"
        ),
        Column(f"mean {norm} ± s.e.", lambda row, _: words.mean_and_error(row), f"mean {latex}"),
        *(_upp(f"{budget:g}") for budget in summary.budgets),
        Column("optimality", lambda row, _: words.optimality(row.optimality), "optimality"),
        Column("fwd", lambda row, _: words.count(row.forwards), "forwards"),
        Column("bwd", lambda row, _: words.count(row.backwards), "backwards"),
        *(_score(name) for name in scores),
        *(COSTS if timed else ()),
        Column("flags", lambda row, _: words.flags(row), "flags", text=True),
    ]


def _upp(budget: str) -> Column:
    return Column(
        f"P({budget}) %", lambda row, _: words.rate(row.p_upp.get(budget)), rf"$P({budget})$ (\%)"
    )


def _score(name: str) -> Column:
    return Column(
        words.score(name),
        lambda row, _: words.distance(row.perception.get(name, {}).get("mean")),
        words.score(name),
    )


def note(summary: Summary) -> str:
    """What the columns mean, in one paragraph."""
    return (
        f"{words.NORMS[summary.norm]} distances with inputs scaled to [0, 1]. P_suc is the share "
        "of the correctly classified images for which the attack found an adversarial; mean and "
        "median are over these successes; P(D) is the share found within distance D; brackets are "
        f"Wilson's {100 * summary.confidence:g} % intervals. Optimality is AttackBench's: 1 for an "
        "attack that is best on every image, 0 for one that finds nothing; 8-bit results compete "
        "among themselves. fwd and bwd are forward and backward passes per image."
    )


def counted(rows: Sequence[Row]) -> str:
    """How many images a task's numbers are over."""
    measured = [row for row in rows if row.images]
    if not measured:
        return "No results."
    images = max(row.images for row in measured)
    correct = max(row.correct for row in measured)
    if not correct:
        return (
            f"None of {images} images is classified correctly, so that there is nothing to attack: "
            "are these the model's own labels (not off by one), and is its preprocessing declared "
            "(mean, std, bounds, channels)?"
        )
    return f"{correct} of {images} images are classified correctly and count."


def sections(rows: Sequence[Row]) -> list[tuple[Row, bool]]:
    """The rows, and whether each is the first raw one after 8-bit ones."""
    before = [None, *rows]
    return [
        (row, previous is not None and previous.line.digital and not row.line.digital)
        for previous, row in zip(before, rows, strict=False)
    ]
