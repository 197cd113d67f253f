"""Records without attacks: what the metrics and reports are tested on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from foolart.evaluation.records import Record


def record(image: int = 0, distance: float = math.nan, **changes: Any) -> Record:
    """A row whose attack succeeded if it has a distance."""
    success = math.isfinite(distance)
    fields: dict[str, Any] = {
        "data": "digits",
        "model": "net",
        "attack": "bp",
        "variant": "rounded",
        "defence": "",
        "threat": "white-box",
        "source": changes.get("model", "net"),
        "seed": 0,
        "image": image,
        "image_hash": f"hash{image}",
        "label": 3,
        "clean_prediction": 3,
        "correct": True,
        "prediction": 5 if success else 3,
        "success": success,
        "distance": distance,
        "distance_linf": distance / 4,
        "forwards": 21,
        "backwards": 20,
    }
    return Record(**{**fields, **changes})


def records(distances: Sequence[float], **changes: Any) -> list[Record]:
    """One row for each distance, NaN for a failure; the images count from 0."""
    return [record(image, distance, **changes) for image, distance in enumerate(distances)]
