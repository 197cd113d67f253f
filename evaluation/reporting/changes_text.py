"""The comparison of two runs as text: Markdown, and tables for the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from foolart.evaluation.reporting import words
from foolart.evaluation.reporting.changes import Change, Changes
from foolart.evaluation.summary import Line

HEAD = ("line", "images", "P_suc %", "median", "closer / farther", "passes", "p", "verdict")
Pair = tuple[float | None, float | None]


def markdown(changes: Changes) -> str:
    """The changes as Markdown: what is significant first, then every line."""
    a, b = changes.names
    parts = [f"# {b} compared with {a}", *sentences(changes)]
    if changes.lines:
        table = [HEAD, ("---", *["---:"] * 6, "---"), *(cells(changes, c) for c in changes.lines)]
        parts.append("\n".join(f"| {' | '.join(map(_pipe, row))} |" for row in table))
    differing = [
        f"- {name}: {old or 'none'} → {new or 'none'}"
        for name, (old, new) in changes.environment.items()
        if name != "scenario"
    ]
    if differing:
        parts.append("What differs in how they were made:\n\n" + "\n".join(differing))
    if "scenario" in changes.environment:
        old, new = (text.splitlines() for text in changes.environment["scenario"])
        diff = difflib.unified_diff(old, new, fromfile=a, tofile=b, n=0, lineterm="")
        parts.append("```diff\n" + "\n".join(diff) + "\n```")
    return "\n\n".join([*parts, note(changes)]) + "\n"


def terminal(changes: Changes) -> Any:
    """The changes for ``rich`` to print: sentences, and a table of all lines."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found: list[Any] = [Text(sentence.replace("**", "")) for sentence in sentences(changes)]
    if changes.lines:
        table = Table(caption=note(changes), caption_justify="left")
        for name in HEAD:
            left = name in ("line", "verdict")
            table.add_column(name, justify="left" if left else "right", overflow="fold")
        for change in changes.lines:
            style = "bold" if change in changes.significant else ""
            table.add_row(*(Text(cell, style=style) for cell in cells(changes, change)))
        found.append(table)
    return Group(*found)


def sentences(changes: Changes) -> list[str]:
    """What is significant, and which lines have no partner, as Markdown paragraphs."""
    significant = [
        f"- **{_name(change.line)}**: {changes.verdict(change)}; P_suc "
        f"{_arrow(change.p_suc, words.percent)} %, median {_arrow(change.median, words.distance)}, "
        f"closer on {change.closer} images and farther away on {change.farther}."
        for change in changes.significant
    ]
    found = ["\n".join(significant) or "No line changed significantly."]
    for name, own in zip(changes.names, changes.only, strict=True):
        if own:
            found.append(f"Only in {name}: " + "; ".join(_name(line) for line in own) + ".")
    return found


def cells(changes: Changes, change: Change) -> tuple[str, ...]:
    """A line's fields, in the order of ``HEAD``."""
    p = words.p_value(min(change.p_success, change.p_distance))
    return (
        _name(change.line),
        str(change.images),
        _arrow(change.p_suc, words.percent),
        _arrow(change.median, words.distance),
        f"{change.closer} / {change.farther}",
        _arrow(change.passes, words.count),
        p.removeprefix("p ").removeprefix("= "),
        changes.verdict(change) or "within chance",
    )


def note(changes: Changes) -> str:
    """What the columns mean."""
    return (
        "The runs are paired image by image, on the images that count in both. p is the smaller of "
        "McNemar's exact test on success and Wilcoxon's signed-rank test on the distances, after "
        f"Holm's correction over all {2 * len(changes.lines)} tests; a change is called "
        f"significant below {changes.alpha:g}. Medians are over images where both succeeded."
    )


def _name(line: Line) -> str:
    return f"{words.attack(line)} on {words.task(line.task)}"


def _arrow(pair: Pair, write: Callable[[float | None], str]) -> str:
    old, new = write(pair[0]), write(pair[1])
    return old if old == new else f"{old} → {new}"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")
