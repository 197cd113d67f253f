"""The judge: protocol, metrics, scenarios, runner, report and command line.

Names are imported when they are first used: the harness needs PyTorch and the extra ``eval``.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Results": "results",
    "Scenario": "scenario",
    "changes": "reporting.report",
    "evaluate": "engine",
    "report": "reporting.report",
    "resume": "engine",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
