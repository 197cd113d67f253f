"""What is found out about the images of a work unit, while it is computed."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from foolart.evaluation.data import image_hash
from foolart.evaluation.plan import Unit
from foolart.evaluation.sources import Images


@dataclass
class Verdict:
    """How the model judges one adversarial in one variant.

    Attributes:
        prediction: The class that the model gives to it.
        l2: Its L2 distance to the original, scaled to [0, 1].
        linf: Its L_inf distance.
        file: Path of its PNG, if it was written.
    """

    prediction: int = -1
    l2: float = math.nan
    linf: float = math.nan
    file: str = ""


@dataclass
class Table:
    """Everything about a unit's images, by their row within the unit.

    Attributes:
        unit: The unit.
        images: The originals ``(N, C, H, W)``.
        labels: Their classes.
        clean: The model's predictions for them.
        counts: Forward and backward passes of the attack.
        extra: Forward and backward passes of a variant, on top.
        flags: Reasons not to trust a row.
        broken: Why there is no answer for a row, or no verdict for a variant and row.
        verdicts: By variant and row.
        curves: Row, queries and distances of the anytime curves.
        originals: Paths of the originals' PNGs.
        notes: What happened on the way, such as memory running out.
        seconds: Time spent, by stage.
        peak: Largest amount of memory needed, in bytes.
        traces: The traceback of everything that broke.
    """

    unit: Unit
    images: Images
    labels: list[int]
    clean: list[int] = field(default_factory=list)
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    extra: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    flags: dict[int, list[str]] = field(default_factory=dict)
    broken: dict[int | tuple[str, int], str] = field(default_factory=dict)
    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)
    curves: list[list[Any]] = field(default_factory=list)
    originals: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak: int = 0
    traces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Hash the images once."""
        pairs = zip(self.images, self.labels, strict=True)
        self.hashes = [image_hash(image, label) for image, label in pairs]

    def correct(self, row: int) -> bool:
        """Whether the model classifies this original correctly; False if it was never asked."""
        return bool(self.clean) and self.clean[row] == self.labels[row]

    def breaks(self, error: Exception, rows: Iterable[int], variant: str = "") -> None:
        """Note that an exception left some rows without an answer, in one variant or in all."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({frame.name}, line {frame.lineno})"
        for row in rows:
            self.broken[(variant, row) if variant else row] = reason
        self.traces.append("".join(traceback.format_exception(error)))

    def body(self, variants: list[str], found: tuple[str, ...]) -> dict[str, Any]:
        """The table as it is stored: columns of equal length, one entry a variant and row.

        Args:
            variants: The variants to tell of.
            found: What the self-check found wrong with the attack: flags of every row.
        """
        rows = [self._row(v, k, found) for v in variants for k in range(len(self.labels))]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return {
            "unit": self.unit.name,
            "broken": any(flags.startswith("broken:") for flags in columns["flags"]),
            "columns": columns,
            "curves": self.curves,
            "notes": self.notes,
            "traces": self.traces,
            "seconds": self.seconds,
            "peak": self.peak,
        }

    def _row(self, variant: str, k: int, flags: tuple[str, ...]) -> dict[str, Any]:
        clean = self.clean[k] if self.clean else -1
        row = {
            "variant": variant,
            "row": k,
            "image": self.unit.start + k,
            "image_hash": self.hashes[k],
            "label": self.labels[k],
            "clean_prediction": clean,
            "correct": self.correct(k),
            "prediction": -1,
            "success": False,
            "distance": None,
            "distance_linf": None,
            "forwards": 0,
            "backwards": 0,
            "flags": "",
            "original": self.originals.get(k, ""),
            "file": "",
        }
        verdict = self.verdicts.get((variant, k), Verdict())
        broken = self.broken.get(k, "") or self.broken.get((variant, k), "")
        if broken:
            return {**row, "flags": "broken: " + _one_line(broken)}
        if not self.correct(k):
            found = {"prediction": clean, "success": True, "distance": 0.0, "distance_linf": 0.0}
            return {**row, **found}
        row["forwards"], row["backwards"] = (
            a + b for a, b in zip(self.counts[k], self.extra.get((variant, k), (0, 0)), strict=True)
        )
        row["prediction"], row["file"] = verdict.prediction, verdict.file
        row["success"] = verdict.prediction != self.labels[k]
        if row["success"]:
            row["distance"], row["distance_linf"] = verdict.l2, verdict.linf
        row["flags"] = ";".join([*flags, *self.flags.get(k, [])])
        return row


def _one_line(text: str) -> str:
    # Semicolons separate flags.
    return " ".join(text.replace(";", ",").split())[:300]
