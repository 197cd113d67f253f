"""The releases of the toolkits that are supported: those that the tests run with."""

from __future__ import annotations

import re
from importlib import metadata

# As in pyproject.toml: from the first, and below the second. A test compares the two.
SUPPORTED = {
    "foolbox": ("3.3.1", "3.4"),
    "adversarial-robustness-toolbox": ("1.17.1", "1.21"),
}


def check_version(package: str) -> None:
    """Refuse a release of a toolkit that no test has run with; one that is not there passes.

    Raises:
        ImportError: Naming the release, those that are supported, and how to get one.
    """
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return
    first, beyond = SUPPORTED[package]
    if not _numbers(first) <= _numbers(version) < _numbers(beyond):
        raise ImportError(
            f"foolart works with {package} from {first} up to, but not including, {beyond}, got "
            f'{version}: pip install "{package}>={first},<{beyond}"'
        )


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in release[0].split(".")) if release else ()
