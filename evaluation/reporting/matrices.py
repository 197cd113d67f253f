"""Tables with attacks, models or defences on both sides: wins, transfer and defences by threat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foolart.evaluation.pairing import Wins
from foolart.evaluation.reporting import words
from foolart.evaluation.reporting.leaderboard import by_task
from foolart.evaluation.statistics import Estimate
from foolart.evaluation.summary import Group, Line, Robustness, Row, Summary
from foolart.evaluation.worst_case import order


@dataclass(frozen=True)
class Cell:
    """A field of a matrix.

    Attributes:
        text: What it says.
        title: What it says in full.
        share: How strongly it is coloured, from 0 to 1; None for not at all.
        mark: Whether its text is set in bold.
    """

    text: str
    title: str = ""
    share: float | None = None
    mark: bool = False


@dataclass(frozen=True)
class Matrix:
    """A table with headings on both sides.

    Attributes:
        title: What it is about.
        corner: What rows and columns are.
        columns: Headings of the columns.
        rows: Headings of the rows, and their cells.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def wins(summary: Summary, alpha: float = 0.05) -> list[Matrix]:
    """For each task and variant: how often the attack of the row beats that of the column."""
    ranks = {row.line: k for rows in by_task(summary).values() for k, row in enumerate(rows)}
    groups = sorted(summary.wins, key=lambda group: group.variant == "raw")
    return [_wins(group, ranks, alpha) for group in groups]


def _wins(group: Group, ranks: Mapping[Line, int], alpha: float) -> Matrix:
    pairs = {(pair.attack, pair.other): pair for pair in group.wins}
    names = tuple(
        sorted(
            {name for pair in pairs for name in pair},
            key=lambda name: ranks[Line.at(group.task, name, group.variant)],
        )
    )
    rows = tuple((a, tuple(_duel(pairs, a, b, alpha) for b in names)) for a in names)
    title = f"{words.task(group.task)} · {words.variant(group.variant)}"
    return Matrix(title, "row beats column, % of images", names, rows)


def _duel(pairs: dict[tuple[str, str], Wins], a: str, b: str, alpha: float) -> Cell:
    if a == b:
        return Cell("·", "the same attack")
    pair = pairs.get((a, b)) or pairs[b, a]
    won, lost = (pair.wins, pair.losses) if pair.attack == a else (pair.losses, pair.wins)
    total = won + lost + pair.ties
    if total == 0:
        return Cell(words.MISSING, "no image in common")
    title = f"{a} against {b}: {won} wins, {pair.ties} ties, {lost} losses; sign test "
    title += f"{words.p_value(pair.p_adjusted)} after Holm's correction"
    significant = pair.p_adjusted < alpha and won > lost
    return Cell(f"{100 * won / total:.0f}", title, won / total, mark=significant)


def perception(summary: Summary) -> list[Matrix]:
    """For each task: the perceptual scores of every 8-bit line that has any."""
    found = []
    for task, rows in by_task(summary).items():
        scored = [row for row in rows if row.perception]
        names = tuple(sorted({name for row in scored for name in row.perception}))
        columns = [*map(words.score, names), *(["MAD = 0, %"] if "mad" in names else [])]
        if scored:
            lines = tuple((words.attack(row.line), _scores(row, names)) for row in scored)
            found.append(Matrix(words.task(task), "mean (median)", tuple(columns), lines))
    return found


def _scores(row: Row, names: Sequence[str]) -> tuple[Cell, ...]:
    cells = []
    for name in names:
        values = row.perception.get(name, {})
        mean, median = (words.distance(values.get(key)) for key in ("mean", "median"))
        cells.append(Cell(f"{mean} ({median})" if values else words.MISSING))
    if "mad" in names:
        cells.append(Cell(words.percent(row.perception.get("mad", {}).get("zeros"))))
    return tuple(cells)


def transfer(summary: Summary) -> list[Matrix]:
    """For each attack: success on every model of adversarials that were computed on another."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in summary.rows:
        line = row.line
        # What was made on a model without a defence, by gradients or decisions, and its transfer.
        if line.threat.startswith("transfer") or not line.defence:
            groups.setdefault((line.data, line.attack, line.variant), []).append(row)
    return [
        _transfer(f"{attack} · {words.variant(variant)} · {data}", rows)
        for (data, attack, variant), rows in groups.items()
        if any(row.line.threat.startswith("transfer") for row in rows)
    ]


def _transfer(title: str, rows: Sequence[Row]) -> Matrix:
    cells = {}
    for row in rows:
        cells[row.line.source, _target(row.line)] = row.p_suc
    sources = tuple(dict.fromkeys(source for source, _ in cells))
    targets = tuple(dict.fromkeys(target for _, target in cells))
    unknown = Estimate()
    return Matrix(
        title,
        "made on row, tried on column: success %",
        targets,
        tuple(
            (source, tuple(_rate(cells.get((source, target), unknown)) for target in targets))
            for source in sources
        ),
    )


def _target(line: Line) -> str:
    return f"{line.model} behind {line.defence}" if line.defence else line.model


def defences(summary: Summary) -> list[Matrix]:
    """For each model: accuracy of every defence, without attack and by threat model.

    Shown where there is a defence, or a threat model beyond white box and transfer.
    """
    groups: dict[tuple[str, str], list[Robustness]] = {}
    for item in summary.robustness:
        groups.setdefault((item.data, item.model), []).append(item)
    return [
        _defences(f"{model} · {data}", items)
        for (data, model), items in groups.items()
        if any(item.defence for item in items)
        or any(set(item.threats) - {"white-box", "transfer"} for item in items)
    ]


def _defences(title: str, items: Sequence[Robustness]) -> Matrix:
    threats = sorted({threat for item in items for threat in item.threats}, key=order)
    rows = []
    for item in items:
        worst = _rate(item.worst)
        rows.append(
            (
                item.defence or "none",
                (
                    _rate(item.clean),
                    *(_rate(item.threats.get(threat, Estimate())) for threat in threats),
                    Cell(worst.text, worst.title, worst.share, mark=True),
                    Cell("; ".join(item.flags)),
                ),
            )
        )
    heads = (words.THREATS.get(threat, threat) for threat in threats)
    columns = ("clean", *heads, "worst case", "flags")
    corner = f"accuracy % of {items[0].images} images, within distance {items[0].budget:g}"
    return Matrix(title, corner, columns, tuple(rows))


def _rate(estimate: Estimate) -> Cell:
    if estimate.value is None:
        return Cell(words.MISSING, "not measured")
    return Cell(words.rate(estimate), "with Wilson's interval", estimate.value)
