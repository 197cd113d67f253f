"""What quantisation does to attacks on EfficientNet-Lite0, on the ImageNet images of Foolbox.

python benchmarks/study_quantization.py [--steps 100] [--threads 2] [--device cpu]

First table: Foolbox's DDN as it is, rounded, and quantised in every way that Quantized offers.
Second table: DDN with the quantisation inside its loop, at a fifth of the steps and at all of them.
Distances are L2, on images in [0, 1]; "visible" is their mean, weighted by the noise visibility
function, and "MAD" the mean of MAD's appearance stage, both on images that fool the model. A step
is a gradient. On two CPU cores 100 steps take half an hour.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import torch
from foolbox.attacks import DDNAttack

from foolart.adapters.foolbox import Quantized, QuantizedDDNAttack
from foolart.evaluation.models import load_model
from foolart.evaluation.specs import Spec
from foolart.plugins.mad import mad
from foolart.plugins.visibility import noise_visibility

WAYS: dict[str, dict[str, Any]] = {
    "rounded": {"method": "rounding"},
    "Q_0": {"method": "distortion"},
    "Q_infinity": {"method": "gradient"},
    "Q_lambda": {},
    "Q_lambda, 12 bisections": {"bisections": 12},
    "Q_lambda, a margin of .5": {"margin": 0.5},
    "Q_lambda, visibility": {"weights": "visibility"},
    "linear search": {"search": "linear"},
    "linear search, a margin of 3": {"search": "linear", "margin": 3.0},
    "linear search, a margin of 10": {"search": "linear", "margin": 10.0},
}


class Ready(DDNAttack):
    """An attack that has run already, so that all quantisers see the same images."""

    def __init__(self, images: torch.Tensor):
        super().__init__()
        self.images = images

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return ep.astensor(self.images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    model = load_model(Spec.of("efficientnet-lite0", "model"), device).foolbox
    x, y = foolbox.samples(model, dataset="imagenet", batchsize=20)
    right = model(x).argmax(dim=1) == y
    x, y = x[right], y[right]
    print(f"{len(x)} of {len(right)} images are classified correctly\n")
    print(f"{'':<44}{'P_suc':>7}{'mean':>8}{'median':>8}{'visible':>9}{'MAD':>7}", end="")
    print(f"{'seconds':>9}")

    for steps in (arguments.steps // 5, arguments.steps):
        name = f"Foolbox's DDN-{steps}"
        raw = report(name, DDNAttack(steps=steps), model, x, y)
        for way, kwargs in WAYS.items():
            report(f"{name}, {way}", Quantized(Ready(raw), **kwargs), model, x, y)
        print()
    for steps in (arguments.steps // 5, arguments.steps):
        for quantization in ("rounding", "lagrangian"):
            for loss in ("log_probability", "margin"):
                attack = QuantizedDDNAttack(steps=steps, quantization=quantization, loss=loss)
                report(f"DDN-{steps}, {quantization} in the loop, {loss}", attack, model, x, y)


def report(name: str, attack: Any, model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    start = time.perf_counter()
    images, _, success = attack(model, x, y, epsilons=None)
    seconds = time.perf_counter() - start
    print(f"{name:<44}{success.float().mean():>7.2f}", end="")
    before, after = x[success], images[success]
    if success.any():
        change = after - before
        weighted = noise_visibility(ep.astensor(before)).raw.sqrt() * change
        distances, visible = (t.flatten(1).norm(dim=1) for t in (change, weighted))
        print(f"{distances.mean():>8.3f}{distances.median():>8.3f}{visible.mean():>9.3f}", end="")
        score = mad(pixels(before), pixels(after)) if not isinstance(attack, DDNAttack) else None
        print(f"{score.appearance.mean():>7.3f}" if score else f"{'':>7}", end="")
    else:
        print(f"{'':>32}", end="")
    print(f"{seconds:>9.1f}", flush=True)
    return images


def pixels(images: torch.Tensor) -> np.ndarray:
    return (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


if __name__ == "__main__":
    main()
