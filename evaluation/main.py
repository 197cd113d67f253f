"""The command ``foolart``: says what to install where its extras are missing."""

from __future__ import annotations

import sys

EVAL = ("typer", "rich", "PIL", "tomli_w", "jinja2", "matplotlib", "scipy")
NEEDS = {"torch": "torch", **dict.fromkeys(EVAL, "eval")}


def main() -> None:
    """Run the command line."""
    missing = dict.fromkeys(extra for module, extra in NEEDS.items() if not _importable(module))
    if missing:
        extras = ",".join(["eval", *(extra for extra in missing if extra != "eval")])
        print(
            f'foolart: the command line needs more packages: pip install "foolart[{extras}]"',
            file=sys.stderr,
        )
        sys.exit(2)
    from foolart.evaluation.cli import run

    sys.exit(run())


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
