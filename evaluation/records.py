"""What a run keeps of every image: the one table that all metrics and reports are computed from."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

VARIANTS = ("raw", "rounded", "lagrangian")


class Comparison(NamedTuple):
    """What distinguishes one line of a results table from another."""

    data: str
    model: str
    attack: str
    variant: str
    defence: str
    threat: str
    source: str
    seed: int


@dataclass(frozen=True)
class Record:
    """One image under one comparison; a row of ``per_image.csv``.

    Attributes:
        data: Name of the data set.
        model: Name of the model that judges this row.
        attack: Name of the attack, with its parameters where they differ from the defaults.
        variant: How the adversarial was brought to 8 bits: one of ``VARIANTS``.
        defence: Name of the defence around the model, empty for none.
        threat: Threat model of this row, such as ``white-box``, ``transfer`` or ``bpda``.
        source: Name of the model that the adversarial was computed on; equals ``model`` unless it
            was transferred.
        seed: The run's seed; random numbers derive from it and from ``image_hash``.
        image: Row index of the image in its data set.
        image_hash: Hash of the image's pixels and label.
        label: The true class.
        clean_prediction: The class that the model gives to the original.
        correct: Whether ``clean_prediction`` is the label: only these rows count in P_suc.
        prediction: The class that the model gives to the final adversarial, re-read after the
            variant was applied; -1 in a broken row.
        success: Whether that is adversarial: judged on exactly the stored 8-bit pixels, or, for
            the variant ``raw``, on the attack's float images. True with distance 0 where the
            original is misclassified already (``correct`` is False).
        distance: L2 distance to the original with inputs scaled to [0, 1]; NaN without success.
        distance_linf: L_inf distance on the same scale; NaN without success.
        forwards: Forward passes spent on this image, those of the variant included.
        backwards: Backward passes spent on this image.
        flags: Reasons not to trust the row, separated by semicolons; empty if none. A row whose
            computation broke starts with ``broken:``; it is no failure of the attack, so that
            metrics report it apart (see :attr:`broken`).
        original: Path of the original's PNG within the results folder, empty if none was written.
        file: Path of the adversarial's PNG within the results folder, empty if none was written.
    """

    data: str
    model: str
    attack: str
    variant: str
    defence: str
    threat: str
    source: str
    seed: int
    image: int
    image_hash: str
    label: int
    clean_prediction: int
    correct: bool
    prediction: int
    success: bool
    distance: float
    distance_linf: float
    forwards: int
    backwards: int
    flags: str = ""
    original: str = ""
    file: str = ""

    @property
    def comparison(self) -> Comparison:
        """The line of the results table that this row belongs to."""
        return Comparison(*(getattr(self, name) for name in Comparison._fields))

    @property
    def broken(self) -> bool:
        """Whether the row was never measured: its work unit raised or returned no images."""
        return self.flags.startswith("broken:")


@dataclass(frozen=True)
class Curve:
    """The best raw adversarial of one image against the passes spent: an anytime curve.

    Attributes:
        comparison: The line of the table; its variant is always ``raw``.
        image: Row index of the image in its data set.
        queries: Forward plus backward passes at which the best distance improved, rising.
        distances: The best L2 distance from then on, inputs scaled to [0, 1], falling.
    """

    comparison: Comparison
    image: int
    queries: tuple[int, ...]
    distances: tuple[float, ...]


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write the table as CSV, atomically; :func:`read_records` gives equal records back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Record)]
    writer.writerow(names)
    writer.writerows([getattr(record, name) for name in names] for record in records)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    os.replace(temporary, path)


def read_records(path: Path) -> list[Record]:
    """Read a table that :func:`write_records` wrote.

    Raises:
        ValueError: If the file is no such table, naming the row that could not be read.
    """
    parse = {"str": str, "int": int, "float": float, "bool": _bool}
    kinds = {field.name: parse[str(field.type)] for field in fields(Record)}
    records = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                records.append(Record(**{name: kinds[name](row[name]) for name in kinds}))  # type: ignore[operator]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a row of a foolart results table ({error!r}); "
                    "write it again with `foolart report FOLDER`"
                ) from error
    return records


def _bool(text: str) -> bool:
    return {"True": True, "False": False}[text]
