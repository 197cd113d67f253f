"""What users import says what it takes, what it raises, and its source.

That every public name has a docstring at all is checked by ruff.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

from .pages import ROOT

pytest.importorskip("torch")

SURFACES = ("foolart.adapters.foolbox", "foolart.adapters.art", "foolart.evaluation")


def surface():
    for name in SURFACES:
        module = importlib.import_module(name)
        for key in module.__all__:
            yield pytest.param(name, key, id=f"{name.removeprefix('foolart.')}.{key}")


def load(module, name):
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        pytest.skip(f"{name} needs {error.name}")


def arguments(what):
    """The arguments that a docstring has to explain."""
    try:
        found = inspect.signature(what).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in found if name not in ("self", "args", "kwargs")]


@pytest.mark.parametrize(("module", "name"), list(surface()))
def test_what_users_import_explains_its_arguments_and_errors(module, name):
    what = load(module, name)
    text = inspect.getdoc(what) or ""
    if hasattr(what, "foolbox_class"):
        # The ART faces have the parameters of their Foolbox attacks, which they name.
        text += inspect.getdoc(what.foolbox_class) or ""
    if arguments(what) and module != "foolart.adapters.art":
        assert "Args:" in text or "Attributes:" in text
        missing = [key for key in arguments(what) if key not in text]
        assert not missing
    if name.endswith("Attack") or hasattr(what, "foolbox_class"):
        assert "Raises:" in text
        assert "http" in text, "no source"


@pytest.mark.parametrize(("module", "name"), list(surface()))
def test_what_users_import_is_in_the_reference(module, name):
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    assert f".{name}\n" in pages


@pytest.mark.parametrize("module", SURFACES)
def test_no_module_takes_the_place_of_a_name(module):
    # Importing a submodule makes it an attribute of its package, in front of __getattr__.
    homes = importlib.import_module(module)._HOMES
    assert not set(homes) & {home.partition(".")[0] for home in homes.values()}
