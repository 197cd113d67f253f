"""The table of what the tests ran with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs


def test_the_table_has_a_row_for_every_environment_that_runs_the_suite():
    path = Path(__file__).resolve().parents[2] / "docs" / "matrix.py"
    spec = importlib.util.spec_from_file_location("matrix", path)
    matrix = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(matrix)

    def environment(*outputs, packages=()):
        return {"test": [{"output": o} for o in outputs], "installed_packages": list(packages)}

    first = {
        ".pkg": environment("Writing foolart.egg-info"),
        "lint": environment("All checks passed!"),
        "py310-jax": environment(
            "Python 3.10.13\n= 3 passed, 1 skipped in 2s =",
            "= 2 passed in 1s =",
            packages=["foolbox==3.3.4", "jax==0.6.2", "foolart @ file:///x.whl"],
        ),
        "py311": environment("Python 3.11.7\nImportError", packages=["foolbox==3.3.4"]),
    }
    again = {"py311": environment("Python 3.11.7\n= 1 failed, 4 passed in 2s =")}
    table = matrix.table([{"testenvs": first}, {"testenvs": again}])
    rows = table.splitlines()[2:]
    assert rows == [
        "| `py310-jax` | 3.10.13 | 3.3.4 | – | – | – | 0.6.2 | – | 5 passed, 1 skipped |",
        "| `py311` | 3.11.7 | – | – | – | – | – | – | 4 passed, 1 failed |",
    ]
    assert "**broken**" in matrix.table([{"testenvs": first}])
