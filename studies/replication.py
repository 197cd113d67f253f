"""The tables of the papers on attacks again, on small networks and EfficientNet-Lite0.

python studies/replication.py TABLE ... --data FOLDER --out FOLDER [--on SETTING ...] [--full]

FOLDER of the data holds mnist.npz, cifar10.npz (train_images, train_labels, test_images,
test_labels), imagenet_a.npz (images, labels) and models/ with the weights that
replication_tables.py names; ``--on imagenet`` attacks Foolbox's samples, and reads imagenet_a.npz
only to choose parameters.

Every table is a scenario of the harness, with a results folder OUT/TABLE/SETTING of its own: the
same command goes on with an interrupted run. ``benchmark`` first tries as many settings of every
attack on images of the validation part, and keeps the one of the highest optimality, failures
included. ``--full`` takes all images; on a GPU, with --device cuda.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import replication_tables as tables
from replication_tables import Spec
from torch import nn

from foolart.adapters.foolbox import BoundaryProjectionAttack
from foolart.adapters.weights import load_weights
from foolart.evaluation.engine import evaluate
from foolart.evaluation.results import Results
from foolart.evaluation.scenario import Scenario
from foolart.plugins.boundary import Step

VALIDATED = ("choose", "parameters")


class Certified(nn.Sequential):
    """The small certified CIFAR-10 network of Wong and Kolter: 32x32 RGB, normalised."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2048, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )


def certified(weights: str) -> nn.Module:
    """The network with the weights of a file."""
    network = Certified().eval()
    load_weights(network, Path(weights))
    return network


class RoundedSteps(BoundaryProjectionAttack):
    """BP that takes the exact steps of the thesis's formulas, and rounds where they end."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`foolart.adapters.foolbox.BoundaryProjectionAttack`."""
        with patch.object(Step, "take", lambda step, r, d, box: step._candidate(step.t, r, d)):
            return super().run(*args, **kwargs)


def scenario(
    table: str, setting: str, attacks: dict[str, Spec], images: int | None, device: str = "cpu"
) -> Scenario:
    """A table on a setting, a network with its data, as the harness wants it."""
    name, model = tables.SETTINGS[setting]
    models = [{**model, "label": setting}]
    more: dict[str, Any] = {"images": "none"}
    if table in ("smooth", "transfer"):
        robust = tables.ROBUST.get(setting, ())
        models += [{**tables.SETTINGS[other][1], "label": other} for other in robust]
    if table == "transfer":
        more = {"threats": ["transfer"], "defences": tables.GUARDS}
    part = "validation" if table in VALIDATED else "test"
    return Scenario(
        name=f"{table}, {setting}",
        models=models,
        data=[data(name, part, images)],
        attacks=[{**spec, "label": label} for label, spec in attacks.items()],
        budgets=[tables.BUDGETS[name]],
        compute_batch=20 if name == "imagenet" else 50,
        device=device,
        **more,
    )


def data(name: str, part: str, count: int | None) -> Spec:
    """The first images of the test or the validation part."""
    if name == "imagenet" and part == "test":
        return {"name": "foolbox:imagenet", "label": part}
    chosen: Spec = {"label": part} if count is None else {"label": part, "count": count}
    if name == "imagenet":
        return {"name": "imagenet_a.npz", **chosen}
    prefix = "test" if part == "test" else "train"
    arrays = {"images": f"{prefix}_images", "labels": f"{prefix}_labels"}
    return {"name": f"{name}.npz", **arrays, **chosen}


def numbered(grid: dict[str, list[Spec]]) -> dict[str, Spec]:
    """All settings to choose among."""
    return {f"{name} #{k}": spec for name, specs in grid.items() for k, spec in enumerate(specs)}


def chosen(results: Results) -> dict[str, Spec]:
    """For each attack the setting of the highest optimality after Q_lambda."""
    best: dict[str, tuple[float, int]] = {}
    for row in results.summary.rows:
        attack, _, k = row.line.attack.rpartition(" #")
        if row.line.variant == "lagrangian":
            score = (row.optimality.value or 0.0, -int(k))  # the first of equals
            best[attack] = max(best.get(attack, score), score)
    return {attack: tables.GRID[attack][-k] for attack, (_, k) in best.items()}


def text(results: Results) -> str:
    """A Markdown table of a run."""
    budget = results.scenario.budgets[0]
    lines = [
        f"| network | attack | 8 bits | P_suc | mean D ± s.e. | median D | P({budget:g}) | "
        "gradients |",
        "|" + " --- |" * 8,
    ]
    for row in results.summary.rows:
        line = row.line
        transferred = line.threat == "transfer"
        where = f"{line.source} → {line.model}" if transferred else line.model
        where += f", {line.defence}" if line.defence else ""
        if row.p_suc.value is None:
            empty = " – | – | – | –"
            lines.append(f"| {where} | {line.attack} | {line.variant} |{empty} | {row.error} |")
            continue
        mean, median = row.mean.value, row.median.value
        within = next(iter(row.p_upp.values())).value
        distance = (
            "– | –"
            if mean is None
            else f"{mean:.3f} ± {row.standard_error or 0:.3f} | {median:.3f}"
        )
        lines.append(
            f"| {where} | {line.attack} | {line.variant} | {row.p_suc.value:.2f} | {distance} | "
            f"{within:.2f} | {row.backwards:.0f} |"
        )
    return "\n".join(lines)


def first_stage(results: Results) -> str:
    """After how many iterations BP first fooled the network, and its worst images."""
    lines = []
    for label in ("BP-20", "BP-100"):
        curves = [c for c in results.curves if c.comparison.attack == label and c.queries]
        # An iteration is a forward and a backward pass; the forward that judges it comes next.
        reached = [(curve.queries[0] - 1) // 2 for curve in curves]
        if reached:
            lines.append(
                f"{label}: stage 1 takes {statistics.mean(reached):.1f} iterations on average"
            )
    raw = [r for r in results.records if r.correct and r.variant == "lagrangian" and not r.broken]
    distance = {(r.attack, r.image): r.distance if r.success else math.inf for r in raw}
    own = sorted((d, image) for (attack, image), d in distance.items() if attack == "BP-100")
    for d, image in own[-5:]:
        others = {a: v for (a, i), v in distance.items() if i == image and a != "BP-100"}
        closer = sorted(a for a, v in others.items() if v < d)
        lines.append(f"image {image}: BP-100 at {d:.3f}; closer: {', '.join(closer) or 'none'}")
    return "\n".join(lines)


def main() -> None:
    """Make the tables that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", choices=TABLES, metavar="TABLE", help=str(TABLES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--on", nargs="+", choices=tables.SETTINGS, default=["mnist"])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    os.chdir(arguments.data)  # paths of data and weights are relative to it
    for setting in arguments.on:
        for table in arguments.tables:
            start = time.process_time()
            results = make(table, setting, out, arguments)
            tables_text = text(results)
            if table == "benchmark":
                tables_text += "\n\n" + first_stage(results)
            path = out / table / setting / "table.md"
            path.write_text(tables_text + "\n")
            seconds = time.process_time() - start
            print(
                f"\n## {table}, {setting} ({seconds:.0f} CPU-seconds)\n\n{tables_text}", flush=True
            )


def make(table: str, setting: str, out: Path, arguments: argparse.Namespace) -> Results:
    """Run a table, or what is missing of it."""
    attacks = TABLES[table]
    if table == "benchmark":
        attacks = {**attacks, **chosen(make("choose", setting, out, arguments))}
    images = arguments.validation if table in VALIDATED else arguments.images
    asked = scenario(table, setting, attacks, None if arguments.full else images, arguments.device)
    return evaluate(asked, out / table / setting, report=False)


TABLES: dict[str, dict[str, Spec]] = {
    "benchmark": tables.FIXED,
    "choose": numbered(tables.GRID),
    "strategies": tables.STRATEGIES,
    "parameters": tables.PARAMETERS,
    "speed": tables.SPEED,
    "smooth": tables.SMOOTH,
    "transfer": tables.TRANSFER,
}


if __name__ == "__main__":
    main()
