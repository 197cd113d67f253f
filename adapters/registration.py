"""Make the classes reachable where users of the toolkits look for them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# The toolkit's module, where our classes come from, and their names.
_PLACES = [
    ("foolbox.attacks", "foolart.adapters.foolbox", ()),
    ("art.attacks.evasion", "foolart.adapters.art", ("FoolboxAttack",)),
    ("art.defences.preprocessor", "foolart.adapters.art", ()),
    ("art.defences.transformer", "foolart.adapters.art", ()),
    ("art.defences.trainer", "foolart.adapters.art", ()),
]

_registered: list[tuple[ModuleType, str, Any]] = []


def register() -> list[str]:
    """Make our classes attributes of ``foolbox.attacks``, ``art.attacks.evasion`` and so on.

    Only toolkits and frameworks that are installed are served. Calling it again changes nothing.

    Returns:
        The full names that our classes are now reachable by.

    Raises:
        RuntimeError: If a toolkit has a name of its own that is one of ours; nothing is changed.
    """
    found = []
    for place, source, names in _PLACES:
        if find_spec(place.partition(".")[0]) is None:
            continue
        module = import_module(place)
        for name in names:
            ours = _ours(source, name)
            if ours is None:
                continue
            theirs = getattr(module, name, ours)
            if theirs is not ours:
                raise RuntimeError(
                    f"{place}.{name} exists already, as {theirs!r}: foolart does not overwrite it"
                )
            found.append((module, name, ours))
    known = {(module, name) for module, name, _ in _registered}
    for module, name, ours in found:
        if (module, name) not in known:
            setattr(module, name, ours)
            _registered.append((module, name, ours))
    return [f"{module.__name__}.{name}" for module, name, _ in found]


def unregister() -> None:
    """Undo :func:`register`. Calling it again changes nothing."""
    while _registered:
        module, name, ours = _registered.pop()
        if getattr(module, name, None) is ours:
            delattr(module, name)


def _ours(source: str, name: str) -> Any:
    try:
        return getattr(import_module(source), name)
    except ImportError as error:
        # A framework or extra that is not installed; an error of our own must not pass.
        if (error.name or "").startswith("foolart"):
            raise
        return None
