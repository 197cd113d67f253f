"""The leaderboard in a terminal, in as many columns as its width has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foolart.evaluation.reporting import matrices, words
from foolart.evaluation.reporting.contents import Contents, Cost
from foolart.evaluation.reporting.leaderboard import Column, by_task, columns, counted, sections
from foolart.evaluation.summary import Row, Task

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text


@dataclass(frozen=True)
class Leaderboard:
    """The leaderboard for ``rich`` to print: a table for each task, flags and errors under it.

    Where there are defences, a table of them by threat model follows.

    Intervals, optimality and perceptual scores are left out where the terminal is too narrow for
    them; nothing is cut off.

    Attributes:
        contents: What the report is made of.
    """

    contents: Contents

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render with the most columns that fit."""
        from rich.text import Text

        wide = options.update(width=10_000)
        for task, rows in by_task(self.contents.summary).items():
            for shown in self._layouts():
                table = self._table(task, rows, shown)
                if console.measure(table, options=wide).maximum <= options.max_width:
                    break
            yield table
            yield from self._notes(rows)
            yield Text()
        for matrix in matrices.defences(self.contents.summary):
            table = _defences(matrix, whole=True)
            if console.measure(table, options=wide).minimum > options.max_width:
                table = _defences(matrix, whole=False)
            yield table
            for name, cells in matrix.rows:
                if cells[-1].text:
                    yield Text(f"! {name}: {cells[-1].text}")
            yield Text()

    def _layouts(self) -> Iterator[list[Column]]:
        """Sets of columns, from the widest to the narrowest."""
        summary = self.contents.summary
        full = [c for c in columns(summary, timed=bool(self.contents.costs)) if c.head != "flags"]
        yield full
        plain = {"P_suc %": _p_suc} | {f"P({b:g}) %": _upp(f"{b:g}") for b in summary.budgets}
        short = [c._replace(cell=plain.get(c.head, c.cell)) for c in full]
        yield short
        dropped = {words.score(name) for row in summary.rows for name in row.perception}
        yield [column for column in short if column.head not in dropped]
        dropped |= {"optimality", *(f"P({b:g}) %" for b in summary.budgets[1:])}
        yield [_narrow(column) for column in short if column.head not in dropped | {"bwd"}]

    def _table(self, task: Task, rows: list[Row], shown: list[Column]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=words.task(task), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.padding = (0, 1, 0, 0)
        for column in shown:
            # Only names may be broken: a number in two pieces is another number.
            if column.text:
                table.add_column(column.head, overflow="fold", no_wrap=column.head != "attack")
            else:
                table.add_column(column.head, justify="right", no_wrap=True, overflow="fold")
        for row, first in sections(rows):
            if first:
                table.add_section()
            style = "red" if row.error else "yellow" if row.flags else ""
            cells = [column.cell(row, self.contents.costs.get(row.line)) for column in shown]
            if words.flags(row):
                cells[0] = f"! {cells[0]}"
            table.add_row(*(Text(cell, style=style) for cell in cells))
        return table

    def _notes(self, rows: list[Row]) -> Iterator[Text]:
        """How many images count, and each flag or error with the lines that carry it."""
        from rich.text import Text

        yield Text(counted(rows))
        variants: dict[str, list[str]] = {}
        carriers: dict[str, dict[str, list[str]]] = {}
        for row in rows:
            name, variant = row.line.attack, words.variant(row.line.variant)
            variants.setdefault(name, []).append(variant)
            if flags := words.flags(row):
                carriers.setdefault(flags, {}).setdefault(name, []).append(variant)
        for flags, attacks in carriers.items():
            names = [
                name if own == variants[name] else f"{name} ({', '.join(own)})"
                for name, own in attacks.items()
            ]
            yield Text(f"! {', '.join(names)}: {flags}")


def _defences(matrix: matrices.Matrix, *, whole: bool) -> Table:
    """Defences by threat model, with all intervals or only the headline's; flags are notes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = f"{matrix.title}: {matrix.corner}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    table.add_column("defence", overflow="fold")
    *columns, _ = matrix.columns
    for head in columns:
        # Room for an interval: only words may be broken, a number in two pieces is another number.
        least = 8 if whole or head == columns[-1] else 5
        table.add_column(head, justify="right", overflow="fold", min_width=least)
    for name, (*cells, flags) in matrix.rows:
        texts = [c.text if whole or c.mark else c.text.partition(" [")[0] for c in cells]
        style = "yellow" if flags.text else ""
        marked = f"! {name}" if flags.text else name
        table.add_row(*(Text(text, style=style) for text in [marked, *texts]))
    return table


def _narrow(column: Column) -> Column:
    """The column with less room for its heading, and both sorts of passes in one."""
    cells: dict[str, Callable[[Row, Cost | None], str]] = {
        "attack": lambda row, _: row.line.attack.replace("(", " ("),  # a place to break the line
        "8 bits": lambda row, _: words.variant(row.line.variant).split()[0],
        "fwd": lambda row, _: f"{words.count(row.forwards)}+{words.count(row.backwards)}",
    }
    heads = {"fwd": "passes", "s/image": "s"}
    head = column.head.removesuffix(" %").replace(" L2", "").replace(" L∞", "")
    return column._replace(head=heads.get(head, head), cell=cells.get(column.head, column.cell))


def _p_suc(row: Row, _: Cost | None) -> str:
    return words.percent(row.p_suc.value)


def _upp(budget: str) -> Callable[[Row, Cost | None], str]:
    return lambda row, _: words.percent(row.p_upp[budget].value if row.p_upp else None)
