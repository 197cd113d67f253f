"""The report as one static HTML page: no network, no library, readable without scripts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from foolart.evaluation.reporting import matrices, words
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.curves import anytime, operating
from foolart.evaluation.reporting.findings import findings, trouble
from foolart.evaluation.reporting.leaderboard import SCORES, Column, by_task, columns, counted, note
from foolart.evaluation.reporting.pictures import Example, examples
from foolart.evaluation.reporting.plot import colours, operating_characteristic
from foolart.evaluation.reporting.strips import Scale, strip
from foolart.evaluation.summary import Row, Summary, Task

SMALL = 96  # Images narrower than this many pixels are shown with hard edges.


def page(contents: Contents, *, embed: bool = False) -> str:
    """Render the page.

    Args:
        contents: What the report is made of.
        embed: Whether pictures are put into the page, so that the one file is complete in itself,
            instead of being linked by their paths within the results folder.

    Returns:
        The page as HTML. Equal contents give equal pages.

    Raises:
        ImportError: If jinja2 or matplotlib are missing.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    summary = contents.summary
    # Flags stand under the attack's name, where no width can hide them; scores have a section.
    apart = {"flags", *map(words.score, SCORES)}
    shown = [c for c in columns(summary, timed=bool(contents.costs)) if c.head not in apart]
    colour = colours(contents)
    charts = {"operating": operating(contents), "anytime": anytime(contents)}
    view = {
        "title": contents.title,
        "lead": _lead(summary),
        "progress": contents.progress if contents.progress[0] < contents.progress[1] else None,
        "findings": findings(summary),
        "trouble": trouble(summary),
        "lines": len(summary.rows),
        "norm": words.NORMS[summary.norm],
        "confidence": f"{100 * summary.confidence:g}",
        "columns": shown,
        "note": note(summary),
        "tasks": [_task(contents, task, shown, colour) for task in by_task(summary)],
        "globals": [
            _global(item)
            for item in sorted(summary.optimality, key=lambda item: -(item.optimality.value or 0))
        ],
        "plot": _data_uri(operating_characteristic(contents)),
        "pictures": _pictures(contents, colour, embed),
        "perception": matrices.perception(summary),
        "wins": matrices.wins(summary),
        "transfer": matrices.transfer(summary),
        "defences": matrices.defences(summary),
        "command": contents.command,
        "environment": list(flat(contents.environment)),
        "clean": _clean(summary),
        "scenario": contents.scenario,
        "css": _template("report.css"),
        "script": _template("report.js"),
        "data": _json(
            {
                **charts,
                "colours": colour,
                "budgets": list(summary.budgets),
                "norm": words.NORMS[summary.norm],
                "anytimeNorm": words.NORMS["l2"],
                "variants": words.VARIANTS,
            }
        ),
        **charts,
    }
    view["sections"] = [section[:2] for section in _sections(view) if section[2]]
    for trusted in ("css", "script", "data"):  # Our own files, and JSON that is escaped already.
        view[trusted] = Markup(view[trusted])
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_template("report.html.j2")).render(view)


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The entries of nested tables, their names joined by dots."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            joined = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{name}", joined


def _sections(view: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        ("findings", "In short", True),
        ("leaderboard", "Leaderboard", True),
        ("curves", "Operating characteristics", view["operating"]),
        ("anytime", "What each pass buys", view["anytime"]),
        ("pictures", "What it looks like", view["pictures"]),
        ("perception", "What the eye sees", view["perception"]),
        ("wins", "Image by image", view["wins"]),
        ("transfer", "Transfer", view["transfer"]),
        ("defences", "Defences", view["defences"]),
        ("details", "How this was made", True),
    ]


def _lead(summary: Summary) -> str:
    """What was compared, in numbers."""
    lines = [row.line for row in summary.rows]
    counts = {
        "attack": {line.attack for line in lines},
        "model": {line.model for line in lines},
        "defence": {line.defence for line in lines} - {""},
        "data set": {line.data for line in lines},
    }
    parts = [f"{len(n)} {name}{'s' * (len(n) != 1)}" for name, n in counts.items() if n]
    images = max((row.images for row in summary.rows), default=0)
    seeds = max((row.seeds for row in summary.rows), default=0)
    parts.append(f"{images} images" + (f", {seeds} seeds each" if seeds > 1 else ""))
    return " · ".join(parts)


def _task(
    contents: Contents, task: Task, shown: Sequence[Column], colour: Mapping[str, int]
) -> dict[str, Any]:
    rows = by_task(contents.summary)[task]
    scale = Scale.of(rows)
    parts = {
        "8-bit images": [row for row in rows if row.line.digital and row.images],
        "Raw floats: these cannot be saved as images": [
            row for row in rows if not row.line.digital and row.images
        ],
        "Without results": [row for row in rows if not row.images],
    }
    return {
        "name": words.task(task),
        "transfer": task.threat.startswith("transfer"),
        "counted": counted(rows),
        "scale": scale.text,
        "parts": [
            {"name": name, "rows": [_row(contents, row, shown, colour, scale) for row in own]}
            for name, own in parts.items()
            if own
        ],
    }


def _row(
    contents: Contents, row: Row, shown: Sequence[Column], colour: Mapping[str, int], scale: Scale
) -> dict[str, Any]:
    return {
        "cells": [column.cell(row, contents.costs.get(row.line)) for column in shown],
        "colour": colour[row.line.attack],
        "strip": strip(row, scale) if row.correct else None,
        "flags": words.flags(row),
        "bad": bool(row.error),
    }


def _global(item: Any) -> dict[str, Any]:
    setting = [item.defence and f"behind {item.defence}", item.threat, item.data]
    estimate = item.optimality
    text = words.optimality(estimate)
    if estimate.low is not None and estimate.high is not None:
        text += f" [{estimate.low:.2f}–{estimate.high:.2f}]"
    return {
        "attack": item.attack,
        "variant": words.variant(item.variant),
        "setting": " · ".join(part for part in setting if part),
        "models": item.models,
        "optimality": text,
    }


def _clean(summary: Summary) -> list[tuple[str, str]]:
    return [
        (
            f"{item.model}{' behind ' + item.defence if item.defence else ''} · {item.data}",
            f"{words.rate(item.accuracy)} % of {item.images} images",
        )
        for item in summary.clean
    ]


def _pictures(contents: Contents, colour: Mapping[str, int], embed: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": words.task(task),
            "examples": [_example(contents, item, colour, embed) for item in items],
        }
        for task, items in examples(contents).items()
    ]


def _example(
    contents: Contents, item: Example, colour: Mapping[str, int], embed: bool
) -> dict[str, Any]:
    record = item.record
    value = record.distance if contents.norm == "l2" else record.distance_linf
    folder = contents.folder or Path()

    def source(path: str) -> str:
        return _data_uri((folder / path).read_bytes()) if embed else path

    return {
        "colour": colour[item.line.attack],
        "attack": words.attack(item.line),
        "which": item.which,
        "text": (
            f"image {record.image}, class {record.label} taken for {record.prediction} at "
            f"{words.NORMS[contents.norm]} distance {words.distance(value)}"
        ),
        "panels": [
            {"title": panel.title, "source": source(panel.source), "text": panel.text}
            for panel in item.panels
        ],
        "width": item.width,
        "small": item.width < SMALL,
        "missing": item.missing,
    }


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _json(value: Any) -> str:
    # Inside a script element, only "</" and "<!" could end or change it.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _template(name: str) -> str:
    return (files("foolart.evaluation.reporting") / "templates" / name).read_text(encoding="utf-8")
