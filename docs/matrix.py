"""The table of what the tests ran with, from a run of tox.

tox run --result-json results.json && python docs/matrix.py results.json

It takes the place of the table in ``docs/compatibility.md``; with several files, one table has the
rows of all of them, the last where an environment occurs twice.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "compatibility.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
# The columns of packages, and what pip calls them.
PACKAGES = {
    "Foolbox": "foolbox",
    "ART": "adversarial-robustness-toolbox",
    "NumPy": "numpy",
    "PyTorch": "torch",
    "JAX": "jax",
    "TensorFlow": "tensorflow-cpu",
}
OUTCOMES = ("passed", "skipped", "failed", "error")
NO_SUITE = ("lint", "type", "core", "docs", "bench", "demo")


def row(name: str, environment: dict[str, Any]) -> str | None:
    """A line of the table; None for environments that are about other things than releases."""
    # ".pkg" builds the wheel.
    if name in NO_SUITE or name.startswith(".") or "test" not in environment:
        return None
    found = dict(
        re.split(r"==| @ ", package.strip(), maxsplit=1)
        for package in environment.get("installed_packages", [])
        if "==" in package
    )
    versions = [found.get(package, "–") for package in PACKAGES.values()]
    output = "\n".join(command["output"] for command in environment["test"])
    python = re.search(r"Python (\d+\.\d+\.\d+)", output)
    counts = {word: sum(map(int, re.findall(rf"(\d+) {word}", output))) for word in OUTCOMES}
    outcome = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    cells = [f"`{name}`", python[1] if python else "–", *versions, outcome or "**broken**"]
    return f"| {' | '.join(cells)} |"


def table(results: list[dict[str, Any]]) -> str:
    """The table of tox's results, as Markdown."""
    environments: dict[str, Any] = {}
    for result in results:
        environments.update(result["testenvs"])
    head = ["Environment", "Python", *PACKAGES, "Test suite"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    rows = (row(name, environments[name]) for name in sorted(environments))
    return "\n".join([*lines, *filter(None, rows)])


def main() -> None:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    given = parser.parse_args()
    results = [json.loads(path.read_text(encoding="utf-8")) for path in given.results]
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
