"""The largest amount of memory that a piece of work needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Peak:
    """The peak of a piece of work, once it is done.

    Attributes:
        bytes: On a GPU what PyTorch allocated there; on the CPU the process's resident memory.
    """

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Watch the memory of what runs inside.

    On Linux the kernel's high-water mark is reset first; elsewhere the peak is the process's so
    far.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset()
    try:
        yield peak
    finally:
        cuda = device.type == "cuda"
        peak.bytes = torch.cuda.max_memory_allocated(device) if cuda else _resident()


def _reset() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
