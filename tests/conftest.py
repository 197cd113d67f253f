"""What all tests share."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.networks import Digits, Linear

# Importing ART writes its settings below the home folder: give this process and its children one to
# throw away, and keep the caches of others (matplotlib's fonts) where they are.
os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
os.environ["HOME"] = tempfile.mkdtemp(prefix="foolart-home-")
atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def linear() -> Linear:
    from tests.networks import Linear

    return Linear.make()


@pytest.fixture(scope="session")
def digits() -> Digits:
    from tests.networks import train_digits

    return train_digits()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the files that cannot be imported without PyTorch, where it is missing."""
    if importlib.util.find_spec("torch") or collection_path.suffix != ".py":
        return None
    return "\nimport torch\n" in collection_path.read_text() or None


def pytest_report_header() -> str:
    there = importlib.util.find_spec("torch")
    return "PyTorch: " + ("there" if there else "missing, test files that import it are left out")
