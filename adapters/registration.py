"""Make our classes reachable where users of the toolkits look for theirs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass
from types import ModuleType
from typing import Any

# Our package, and for each kind of class the toolkit's base class and the modules it shows them in.
_PLACES = [
    ("foolart.adapters.foolbox", "foolbox.attacks.base", "Attack", ["foolbox.attacks"]),
    ("foolart.adapters.art", "art.attacks", "EvasionAttack", ["art.attacks.evasion"]),
    (
        "foolart.adapters.art",
        "art.defences.preprocessor",
        "Preprocessor",
        ["art.defences.preprocessor"],
    ),
    (
        "foolart.adapters.art",
        "art.defences.transformer",
        "Transformer",
        ["art.defences.transformer", "art.defences.transformer.evasion"],
    ),
    ("foolart.adapters.art", "art.defences.trainer", "Trainer", ["art.defences.trainer"]),
    (
        "foolart.adapters.art",
        "art.defences.detector.evasion",
        "EvasionDetector",
        ["art.defences.detector.evasion"],
    ),
]

_registered: list[tuple[ModuleType, str, type]] = []


def register() -> list[str]:
    """Make our attacks and defences attributes of the toolkits' modules.

    Attacks become ``foolbox.attacks.NAME`` and ``art.attacks.evasion.NAME``, defences
    ``art.defences.preprocessor.NAME``, ``.transformer.NAME``, ``.trainer.NAME`` and
    ``.detector.evasion.NAME``. Only what the
    installed toolkits and frameworks can serve is registered. Calling it again changes nothing.

    Returns:
        The full names under which our classes can be reached now.

    Raises:
        RuntimeError: If a toolkit has something of its own under one of our names; then nothing is
            registered.
    """
    found = list(_classes())
    for module, name, ours in found:
        theirs = getattr(module, name, ours)
        if theirs is not ours:
            raise RuntimeError(
                f"{module.__name__}.{name} is {theirs!r} already, and foolart does not overwrite it"
            )
    for module, name, ours in found:
        if not hasattr(module, name):
            setattr(module, name, ours)
            _registered.append((module, name, ours))
    return [f"{module.__name__}.{name}" for module, name, _ in found]


def unregister() -> None:
    """Undo :func:`register`. Calling it again changes nothing."""
    while _registered:
        module, name, ours = _registered.pop()
        if vars(module).get(name) is ours:
            delattr(module, name)


def _classes() -> Iterator[tuple[ModuleType, str, type]]:
    for package, home, base, places in _PLACES:
        if find_spec(home.partition(".")[0]) is None:
            continue
        kind = getattr(import_module(home), base)
        for name, ours in _public(package):
            if isclass(ours) and issubclass(ours, kind):
                for place in places:
                    yield import_module(place), name, ours


def _public(package: str) -> Iterator[tuple[str, Any]]:
    module = import_module(package)
    for name in module.__all__:
        try:
            yield name, getattr(module, name)
        except ModuleNotFoundError as error:
            # A framework or an extra that is not installed; an error of our own must not pass.
            if (error.name or "foolart").startswith("foolart"):
                raise
