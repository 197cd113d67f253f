"""What the site needs beyond its configuration: the package as one tree, the studies' pages."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

FOLDERS = {"plugins", "adapters", "evaluation"}
_tree = tempfile.TemporaryDirectory(prefix="foolart-docs-")


@event_priority(100)  # before mkdocstrings reads its configuration
def on_config(config: Any) -> Any:
    """Lay the package out for mkdocstrings, and name the pages that the navigation does not."""
    root = Path(config.config_file_path).resolve().parent
    os.chdir(root)  # examples are read from there, whatever the working directory
    options = config.plugins["mkdocstrings"].config.handlers["python"]
    options["paths"] = [str(_package(root))]
    docs = Path(config.docs_dir)
    named = set(_pages(config.nav))
    found = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    studies = next(entry["Studies"] for entry in config.nav if "Studies" in entry)
    studies.extend(page for page in found if page not in named)
    return config


def _package(root: Path) -> Path:
    """The folder that holds ``foolart`` with its three parts, which setuptools maps for wheels."""
    package = Path(_tree.name) / "foolart"
    if not package.exists():
        package.mkdir()
        for path in [*(root / "src" / "foolart").iterdir(), *(root / name for name in FOLDERS)]:
            (package / path.name).symlink_to(path)
    return package.parent


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in _pages(part)]
