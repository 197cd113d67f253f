"""Perceptual scores of a run's pictures, kept beside them in ``perception.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foolart.evaluation.perception import check_metrics, scores
from foolart.evaluation.protocol import Scores
from foolart.evaluation.records import Record
from foolart.evaluation.store import Store

FILE = "perception.csv"
KEY = ("original", "file", "distance")
BATCH = 16  # Pictures that an interruption may lose.

Key = tuple[str, str, str]
Table = dict[Key, dict[str, float]]


def stored(folder: Path, records: Iterable[Record]) -> Scores:
    """The scores that the folder holds for these records; a damaged file counts as none."""
    return _by_record(_read(folder / FILE), records)


def complete(
    folder: Path,
    records: Sequence[Record],
    metrics: Iterable[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Score every 8-bit success that has pictures, and keep the scores in the folder.

    What is there already is not computed again. Transferred adversarials have the pictures of
    their source, and hence its scores.

    Args:
        folder: The results folder.
        records: Its records.
        metrics: See :func:`foolart.evaluation.perception.scores`; by default all that need no
            further package, as far as the images are large enough.
        progress: Told how many of how many pictures are done.

    Raises:
        ValueError: For an unknown metric, or images below the size that a named one needs.
        ImportError: If the package of a metric is missing.
        OSError: If a picture cannot be read, or the scores cannot be written.
    """
    table = _read(folder / FILE)
    wanted = None if metrics is None else check_metrics(metrics)
    pending = [
        key
        for key in dict.fromkeys(_key(record) for record in records if _scored(record))
        if key not in table or not set(wanted or ()) <= table[key].keys()
    ]
    for start in range(0, len(pending), BATCH):
        for key in pending[start : start + BATCH]:
            original, adversarial = (_pixels(folder / name) for name in key[:2])
            found = scores(original[None], adversarial[None], wanted)
            fresh = {name: float(values[0]) for name, values in found.items()}
            table[key] = table.get(key, {}) | fresh
        _write(folder, table)
        progress(min(start + BATCH, len(pending)), len(pending))
    return _by_record(table, records)


def _scored(record: Record) -> bool:
    return (
        record.correct
        and record.success
        and not record.broken
        and record.variant != "raw"  # The file of a raw adversarial shows its rounded version.
        and bool(record.original and record.file)
    )


def _key(record: Record) -> Key:
    # The distance tells a picture from another one that a later run has written to its place.
    return record.original, record.file, repr(record.distance)


def _by_record(table: Table, records: Iterable[Record]) -> Scores:
    return {
        (record.comparison, record.image): table[_key(record)]
        for record in records
        if _scored(record) and _key(record) in table
    }


def _read(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
        rows = csv.DictReader(io.StringIO(text))
        return {
            (row["original"], row["file"], row["distance"]): {
                name: float(value) for name, value in row.items() if name not in KEY and value
            }
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(folder: Path, table: Table) -> None:
    names = sorted({name for values in table.values() for name in values})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*KEY, *names], restval="", lineterminator="\n")
    writer.writeheader()
    for key in sorted(table):
        values = {name: repr(value) for name, value in table[key].items()}
        writer.writerow(dict(zip(KEY, key, strict=True)) | values)
    Store(folder).write_text(FILE, text.getvalue())


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as file:
        pixels: npt.NDArray[np.uint8] = np.asarray(file)
    return np.atleast_3d(pixels)
