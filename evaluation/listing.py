"""``foolart list``: what can be named in a scenario."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from foolart.evaluation import catalogue, defences, models
from foolart.evaluation.scenario import Scenario, presets
from foolart.evaluation.specs import nearest

Listing = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""The heads and the rows of a table."""


def list_command(
    kind: Annotated[
        str,
        typer.Argument(
            help="attacks, defences, models or presets.",
            autocompletion=lambda: list(_LISTS),
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List what can be named in a scenario."""
    if kind not in _LISTS:
        raise nearest("list", kind, _LISTS)
    head, rows = _LISTS[kind]()
    if as_json:
        print(json.dumps([dict(zip(head, row, strict=True)) for row in rows]))
        return
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(text.replace("[", "\\[") for text in row))
    Console().print(Group(table))


def _attacks() -> Listing:
    rows: list[tuple[str, ...]] = [
        (e.name, e.origin, e.summary) for e in sorted(catalogue.attacks().values(), key=_order)
    ]
    more = [
        ("foolbox:CLASS", "foolbox", "Any class of foolbox.attacks as shipped, defects included"),
        ("art:CLASS", "art", "Any class of art.attacks.evasion, as a Foolbox attack"),
        ("package.module:Class", "yours", "Any Foolbox attack that can be imported"),
    ]
    return ("name", "from", "what it is"), rows + more


def _order(entry: catalogue.Entry) -> tuple[bool, str]:
    return entry.origin != "foolart", entry.name


def _models() -> Listing:
    named = [(name, _first_line(build)) for name, build in models.NAMED.items()]
    return ("name", "what it is"), [*named, *models.FAMILIES.items()]


def _presets() -> Listing:
    rows: list[tuple[str, ...]] = [(name, Scenario.preset(name).description) for name in presets()]
    return ("name", "what it is"), rows


def _defences() -> Listing:
    rows = [(name, entry.summary) for name, entry in defences.defences().items()]
    more = [("package.module:factory", "Any torch.nn.Module on images in [0, 1]")]
    return ("name", "what it is"), [*rows, *more]


_LISTS: dict[str, Callable[[], Listing]] = {
    "attacks": _attacks,
    "defences": _defences,
    "models": _models,
    "presets": _presets,
}


def _first_line(what: Any) -> str:
    return (what.__doc__ or "").split("\n")[0].rstrip(".")
