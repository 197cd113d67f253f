"""Public names that are imported when they are first used: the frameworks are extras."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

# package: the extra that brings it
EXTRAS = {"art": "art", "torch": "torch", "faiss": "patches", "safetensors": "patches"}


def find(package: str, homes: Mapping[str, str], name: str) -> Any:
    """A public name of a package, from the module that is its home.

    Raises:
        AttributeError: If the package has no such name.
        ModuleNotFoundError: Naming the extra, if one is missing.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{package}.{homes[name]}"), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        raise ModuleNotFoundError(
            f'{name} needs {missing}, which is missing: pip install "foolart[{EXTRAS[missing]}]"',
            name=missing,
        ) from error
