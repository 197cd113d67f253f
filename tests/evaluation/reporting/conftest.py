from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from foolart.evaluation.gradient_checks import NO_GRADIENT
from foolart.evaluation.records import Curve, Record
from foolart.evaluation.reporting.contents import Contents, Cost
from foolart.evaluation.summary import Line

from ..synthetic import record

NAN = math.nan
EVIL = "</script><b>&\"'|"  # A name that would break HTML, Markdown and JSON if written as it is.


@pytest.fixture(scope="session")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """A run of three attacks on two models, with pictures, a flag, a failure and a transfer."""
    Image = pytest.importorskip("PIL.Image")
    tmp_path = tmp_path_factory.mktemp("results")
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()

    def picture(name: str, pixels: np.ndarray) -> str:
        Image.fromarray(pixels).save(tmp_path / "images" / name)
        return f"images/{name}"

    records: list[Record] = []
    curves, perception, costs = [], {}, {}
    base = generator.integers(40, 200, (6, 12, 10, 3), dtype=np.uint8)
    originals = [picture(f"original_{i}.png", pixels) for i, pixels in enumerate(base)]
    for model in ("net", EVIL):
        for attack, scale in (("bp", 0.2), ("ddn", 0.3), ("zeros", NAN)):
            for variant in ("raw", "rounded", "lagrangian"):
                lost = variant == "rounded" and attack == "ddn"
                for i in range(6):
                    d = NAN if lost and i > 1 else scale * (1 + i) + 0.01
                    row = record(
                        i,
                        0.0 if i == 5 else d,
                        model=model,
                        attack=attack,
                        variant=variant,
                        correct=i != 5,
                        flags="zeros on failure" if attack == "zeros" and i != 5 else "",
                    )
                    if row.success and row.correct:
                        step = generator.integers(-2, 3, base[i].shape)
                        name = f"{len(records)}.png"
                        row = dataclasses.replace(
                            row,
                            original=originals[i],
                            file=picture(name, (base[i] + step).astype(np.uint8)),
                        )
                        perception[row.comparison, i] = {"mad": float(i > 1), "psnr": 40.0}
                    if variant == "raw" and row.success and row.correct:
                        curves.append(Curve(row.comparison, i, (2, 10, 40), (3 * d, 2 * d, d)))
                    records.append(row)
                costs[Line.of(records[-1].comparison)] = Cost(0.25, 3 * 10**8)
    records += [record(i, 0.4, model="net", source=EVIL, threat="transfer") for i in range(6)]
    records += [
        record(i, NAN, defence="jpeg", threat=threat, flags=NO_GRADIENT)
        for i in range(6)
        for threat in ("white-box", "bpda")
    ]
    requested = list(dict.fromkeys(row.comparison for row in records))
    crashed = record(attack="crashed").comparison
    return Contents(
        records,
        requested=[*requested, crashed],
        errors={crashed: f"ValueError: {EVIL}"},
        curves=curves,
        perception=perception,
        costs=costs,
        environment={"python": "3.11", "packages": {"torch": "2.13"}},
        command="foolart evaluate --preset quick --out results",
        scenario='name = "a test"\n',
        title=f"Test {EVIL}",
        budgets=(1.0, 0.5),
        folder=tmp_path,
    )
