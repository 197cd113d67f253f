"""Where a run took place."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from foolart.evaluation.plan import code_version
from foolart.evaluation.scenario import Scenario


def environment(scenario: Scenario) -> dict[str, Any]:
    """Versions, machine and command, for ``environment.json``."""
    packages = ("foolart", "foolbox", "eagerpy", "torch", "numpy", "adversarial-robustness-toolbox")
    device = torch.device(scenario.device)
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": scenario.threads,
        "code": code_version(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return text.split("model name")[1].split(":")[1].split("\n")[0].strip()
    except (OSError, IndexError):
        return platform.processor()
