"""Quantise the same adversarials in every way (Bonnet et al., figures 5 to 7, table 2, 4.5).

python studies/digital_images.py --data FOLDER --out FOLDER [--on SETTING ...] [--images 50]

Attacks with a budget run at a list of epsilons; what each finds is rounded and quantised by Q_0,
Q_infinity, Q_lambda and Q_lambda with the linearised search, and every image keeps the closest
adversarial that each way has left over. Distances are d = ||x_q - x_o|| / sqrt(n) in levels, as in
the paper. Settings and data are those of studies/replication.py; what was found is kept in OUT.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import torch
from foolbox.attacks.base import MinimizationAttack
from replication import data
from replication_tables import SETTINGS

from foolart.adapters.foolbox import Quantized
from foolart.evaluation.baselines import CarliniWagner
from foolart.evaluation.data import load_data
from foolart.evaluation.models import load_model
from foolart.evaluation.specs import Spec
from foolart.plugins.quantization import LagrangianQuantizer

WAYS: dict[str, dict[str, Any]] = {
    "rounded": {"method": "rounding"},
    "Q_0": {"method": "distortion"},
    "Q_infinity": {"method": "gradient"},
    "Q_lambda": {},
    "linear search": {"search": "linear"},
    "linear search, margin 3": {"search": "linear", "margin": 3.0},
}
# Levels of every element, or the same root mean square.
NATURAL = [0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
ROBUST = [4.0, 6.0, 8.0, 10.0, 12.0, 14.5, 17.5, 21.5, 26.0, 32.0, 48.0, 80.0]
BUDGETED: dict[str, Any] = {
    "FGSM": foolbox.attacks.LinfFastGradientAttack(),
    "I-FGSM": foolbox.attacks.LinfBasicIterativeAttack(steps=20, rel_stepsize=0.1),
    "PGD2": foolbox.attacks.L2BasicIterativeAttack(steps=20, rel_stepsize=0.1),
}
MINIMAL: dict[str, Any] = {
    "C&W": CarliniWagner(binary_search_steps=5, steps=20, stepsize=0.01, initial_const=1.0),
    "DDN-100": foolbox.attacks.DDNAttack(steps=100),
}


class Ready(MinimizationAttack):
    """An attack that has run already, so that all ways see the same images."""

    distance = foolbox.distances.l2

    def __init__(self, images: torch.Tensor):
        self.images = images

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The images; see :class:`foolbox.attacks.base.MinimizationAttack`."""
        return ep.astensor(self.images)


def measure(model: Any, name: str, x: torch.Tensor, y: torch.Tensor, levels: list[float]) -> Any:
    """The smallest distance of each image under each way, infinite without success, and shares."""
    size = math.sqrt(x[0].numel())
    if name in MINIMAL:
        found = [MINIMAL[name](model, x, y, epsilons=None)[1]]
    else:
        attack = BUDGETED[name]
        scale = size if attack.distance is foolbox.distances.l2 else 1.0
        epsilons = [level * scale / 255 for level in levels]
        found = attack(model, x, y, epsilons=epsilons)[1]
    closest = {way: torch.full((len(x),), torch.inf) for way in ("raw", *WAYS)}
    shares: dict[int, tuple[float, float]] = {}
    for images in found:
        for way in closest:
            result = images
            if way != "raw":
                result = Quantized(Ready(images), **WAYS[way])(model, x, y, epsilons=None)[1]
            fooled = model(result).argmax(dim=1) != y
            distance = (result - x).flatten(1).norm(dim=1) * 255 / size
            distance = torch.where(fooled, distance, torch.inf)
            if way == "Q_lambda":
                for k in ((distance < closest[way]).nonzero().flatten()).tolist():
                    shares[k] = share(model, x[k : k + 1], y[k : k + 1], images[k], result[k])
            closest[way] = torch.minimum(closest[way], distance)
    distances = {
        way: [d if math.isfinite(d) else None for d in found.tolist()]
        for way, found in closest.items()
    }
    return {"distances": distances, "shares": list(shares.values())}


def share(
    model: Any, x: torch.Tensor, y: torch.Tensor, raw: torch.Tensor, result: torch.Tensor
) -> tuple[float, float]:
    """How many elements Q_0 moves against the loss, and how many lambda does (table 2)."""
    perturbed = raw[None].clone().requires_grad_()
    outputs = model(perturbed)
    others = outputs.scatter(1, y[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(
        (outputs.gather(1, y[:, None])[:, 0] - others).sum(), perturbed
    )
    levels, original = raw[None].detach() * 255, (x * 255).round()
    quantizer = LagrangianQuantizer(*(ep.astensor(t) for t in (original, levels, gradient)))
    closest = quantizer.closest.raw
    both = ((closest - levels) * gradient < 0) & ((closest - levels).abs() > 2**-12)
    moved = ((result[None] * 255).round() - closest).abs() > 0.5
    return float(both.float().mean()), float(moved.float().mean())


def table(results: dict[str, Any]) -> str:
    """A Markdown table: success, distances, and the shares of table 2."""
    lines = [
        "| attack | 8 bits | P | mean d | median d | elements against the loss |",
        "|" + " --- |" * 6,
    ]
    for name, result in results.items():
        for way, distances in result["distances"].items():
            d = np.array([np.inf if v is None else v for v in distances])
            found = d[np.isfinite(d)]
            mean = f"{found.mean():.3f}" if len(found) else "–"
            part = "–"
            if way == "Q_lambda" and result["shares"]:
                first, second = 100 * np.mean(result["shares"], axis=0)
                part = f"{first:.1f} + {second:.1f} = {first + second:.1f} %"
            lines.append(
                f"| {name} | {way} | {len(found) / len(d):.2f} | {mean} | {np.median(d):.3f} | "
                f"{part} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and print a table for every setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--on", nargs="+", choices=SETTINGS, default=["cifar10"])
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    os.chdir(arguments.data)  # paths of data and weights are relative to it
    for setting in arguments.on:
        name, spec = SETTINGS[setting]
        model = load_model(Spec.of(spec, "model"), arguments.device).foolbox
        part = load_data(Spec.of(data(name, "test", arguments.images), "data"))
        x = torch.from_numpy(np.array(part.images(0, len(part)))).float().div(255)
        x, y = x.to(arguments.device), torch.as_tensor(part.labels[:]).to(arguments.device)
        right = model(x).argmax(dim=1) == y
        levels = ROBUST if setting == "cifar10-robust" or name == "mnist" else NATURAL
        results, start = {}, time.process_time()
        for attack in [*BUDGETED, *MINIMAL]:
            file = out / "digital" / setting / f"{attack.replace('&', 'and')}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                partial = file.with_suffix(".part")
                partial.write_text(json.dumps(measure(model, attack, x[right], y[right], levels)))
                partial.replace(file)
            results[attack] = json.loads(file.read_text())
            known = len(results[attack]["distances"]["raw"])
            if known != int(right.sum()):
                parser.error(
                    f"{file} is of {known} images, not {int(right.sum())}: choose another --out"
                )
        seconds = time.process_time() - start
        print(f"\n## {setting}: {int(right.sum())} images, {seconds:.0f} CPU-seconds\n")
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
