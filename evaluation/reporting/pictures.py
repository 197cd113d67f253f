"""The median and the worst adversarial of each attack, side by side with what they hide."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foolart.evaluation.characteristic import NORMS, by_line
from foolart.evaluation.records import Record
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.leaderboard import by_task
from foolart.evaluation.store import Store
from foolart.evaluation.summary import Line, Task
from foolart.plugins.magnification import magnify

FIGURES = "figures"
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One of the pictures of an example.

    Attributes:
        title: What it shows, in a few words.
        source: Its path within the results folder.
        text: What it shows, for those who cannot see it.
    """

    title: str
    source: str
    text: str


@dataclass(frozen=True)
class Example:
    """One adversarial and what belongs to it.

    Attributes:
        line: The attack that made it.
        which: ``median`` or ``worst``.
        record: Its row.
        panels: Original, adversarial, difference and both magnified; empty if a file is missing.
        width: Width in pixels.
        missing: Why there are no panels.
    """

    line: Line
    which: str
    record: Record
    panels: tuple[Panel, ...]
    width: int = 0
    missing: str = ""


def examples(contents: Contents, limit: int = 8) -> dict[Task, list[Example]]:
    """The median and the worst success of each attack's best line, pictures written.

    The median is the success with the (lower) median distance, the worst the one with the largest.
    Only 8-bit lines are shown, since their files are the adversarials themselves, not an image of
    them; transferred ones are the pictures of their source, and not shown again.

    Args:
        contents: What the report is made of; nothing is shown where it has no folder.
        limit: Attacks of each task, best first.
    """
    if contents.folder is None:
        return {}
    lines = by_line(contents.records)
    found: dict[Task, list[Example]] = {}
    for task, rows in by_task(contents.summary).items():
        best: dict[str, Line] = {}
        for row in rows:
            if (
                row.line.digital
                and row.line in lines
                and not row.line.threat.startswith("transfer")
            ):
                best.setdefault(row.line.attack, row.line)
        for line in list(best.values())[:limit]:
            for which, record in _choose(lines[line], contents.norm):
                example = _example(contents.folder, line, which, record)
                found.setdefault(task, []).append(example)
    return found


def _choose(records: Sequence[Record], norm: str) -> Iterator[tuple[str, Record]]:
    successes = [
        record
        for record in records
        if record.correct and record.success and record.file and not record.broken
    ]
    successes.sort(key=lambda record: (getattr(record, NORMS[norm]), record.image))
    if successes:
        yield "median", successes[(len(successes) - 1) // 2]
    if len(successes) > 1:
        yield "worst", successes[-1]


def _example(folder: Path, line: Line, which: str, record: Record) -> Example:
    try:
        original, adversarial = (_read(folder / name) for name in (record.original, record.file))
        if original.shape != adversarial.shape:
            raise ValueError(f"{record.file} has another shape than {record.original}")
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three on broken files.
        return Example(line, which, record, (), missing=str(error))
    store = Store(folder)
    delta = adversarial.astype(np.int16) - original
    factor = 127 / max(1, int(np.abs(delta).max()))
    difference = np.rint(128 + factor * delta).clip(0, 255).astype(np.uint8)
    about = f"image {record.image}, class {record.label}"
    panels = (
        Panel("original", record.original, f"{about}: the original"),
        Panel("adversarial", record.file, f"{about}: taken for class {record.prediction}"),
        Panel(
            f"difference × {factor:.3g}",
            _write(store, "difference", difference),
            f"{about}: the perturbation, amplified around grey",
        ),
        Panel(
            "original, magnified",
            _write_magnified(store, original),
            f"{about}: the original after adversarial magnification",
        ),
        Panel(
            "adversarial, magnified",
            _write_magnified(store, adversarial),
            f"{about}: the adversarial after adversarial magnification",
        ),
    )
    return Example(line, which, record, panels, width=original.shape[1])


def _read(path: Path) -> Pixels:
    from PIL import Image

    with Image.open(path) as file:
        pixels: Pixels = np.asarray(file)
    return pixels


def _write(store: Store, kind: str, pixels: Pixels) -> str:
    """Write a picture under the hash of its content, unless it is there already."""
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return _cached(store, f"{kind}-{digest[:16]}.png", lambda: pixels)


def _write_magnified(store: Store, pixels: Pixels) -> str:
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return _cached(store, f"magnified-{digest[:16]}.png", lambda: _magnified(pixels))


def _cached(store: Store, name: str, compute: Any) -> str:
    from PIL import Image

    path = store.folder / FIGURES / name
    if not path.is_file():
        content = io.BytesIO()
        Image.fromarray(compute()).save(content, "PNG")
        store.write_bytes(path, content.getvalue())
    return f"{FIGURES}/{name}"


def _magnified(pixels: Pixels) -> Pixels:
    """The adversarial magnification, from [-2, 2] to grey levels."""
    image = np.atleast_3d(pixels).transpose(2, 0, 1)[None].astype(np.float32) / 255
    shown = np.rint((magnify(image)[0] / 4 + 0.5) * 255).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(shown.transpose(1, 2, 0).squeeze())
