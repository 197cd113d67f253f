"""Figures of the papers, from one image or from runs that are there.

python studies/figures.py magnified --out FILE.png [--image 11]
python studies/figures.py mad RESULTS --out FILE.png
python studies/figures.py characteristics RESULTS --out FILE.png

magnified        the smooth paper's figure 1: one of Foolbox's ImageNet samples, magnified, under
                 C&W, sC&W, DeepFool, a universal perturbation, BP, smooth BP and the integer attack
mad              its figure 7: the MAD index of sC&W over that of C&W; RESULTS is a run of ``foolart
                 evaluate --preset smooth``, scored by ``foolart report RESULTS --perception``
characteristics  P(D), the share fooled within D, of RESULTS of studies/integer_attack.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import foolbox
import matplotlib as mpl
import numpy as np
import torch
from smooth import read

from foolart.adapters.foolbox import (
    BoundaryProjectionAttack,
    IntegerMinimumNormAttack,
    Quantized,
    SmoothBoundaryProjectionAttack,
    SmoothCarliniWagnerAttack,
)
from foolart.evaluation.data import load_data
from foolart.evaluation.magnify import side_by_side
from foolart.evaluation.models import load_model
from foolart.evaluation.specs import Spec

mpl.use("Agg")
import matplotlib.pyplot as plt

# Each at the best step of the sweep in the preset "smooth".
CW: dict[str, Any] = {"binary_search_steps": 5, "steps": 20}
ATTACKS = {
    "C&W": SmoothCarliniWagnerAttack(smoothness="free", stepsize=0.0003, **CW),
    "sC&W": SmoothCarliniWagnerAttack(stepsize=0.01, **CW),
    "DeepFool": foolbox.attacks.L2DeepFoolAttack(steps=50),
}
DIGITAL = {
    "BP": BoundaryProjectionAttack(steps=20),
    "smooth BP": SmoothBoundaryProjectionAttack(steps=20),
    "Integer": IntegerMinimumNormAttack(steps=20),
}
SHOWN = (
    "Integer-20",
    "BP-20",
    "BP-100",
    "DDN-20, rounded in its loop",
    "DDN-100, rounded in its loop",
    "DDN-100 + Q_lambda",
    "C&W 5x20, step 0.003, constant 10 + Q_lambda",
    "PGD2 5x20 at the smallest epsilon + Q_lambda",
    "Smooth BP-20",
)


def magnified(out: Path, image: int) -> None:
    """Figure 1: every attack on one image, and what magnification makes of it."""
    model = load_model(Spec.of("efficientnet-lite0", "model")).foolbox
    data = load_data(Spec.of("foolbox:imagenet", "data"))
    images = torch.from_numpy(np.array(data.images(0, len(data)))).float().div(255)
    labels = torch.as_tensor(np.asarray(data.labels[:])).long()
    x, y = images[image : image + 1], labels[image : image + 1]
    found = {"original": x}
    attacks = {name: Quantized(attack) for name, attack in ATTACKS.items()} | DIGITAL
    for name, attack in attacks.items():
        _, adversarial, success = attack(model, x, y, epsilons=None)
        found[name if success.item() else f"{name} (failed)"] = adversarial
    after = (x + universal(model, images, labels)).clamp(0, 1).mul(255).round() / 255
    fooled = (model(after).argmax(1) != y).item()
    found["universal" if fooled else "universal (failed)"] = after
    pixels = (255 * torch.cat(list(found.values()))).round().byte().permute(0, 2, 3, 1)
    side_by_side(pixels.numpy(), list(found)).save(out)


def universal(model: Any, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One perturbation for all images, 10 levels long in L_inf, by ART."""
    from art.attacks.evasion import UniversalPerturbation
    from art.estimators.classification import PyTorchClassifier

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = model(x)
            return scores

    classifier = PyTorchClassifier(
        Network(), torch.nn.CrossEntropyLoss(), tuple(images[0].shape), 1000, clip_values=(0, 1)
    )
    attack = UniversalPerturbation(
        classifier,
        attacker="fgsm",
        attacker_params={"eps": 4 / 255},
        eps=10 / 255,
        max_iter=10,
        verbose=False,
    )
    state = np.random.get_state()
    try:
        np.random.seed(0)
        attack.generate(images.numpy(), np.eye(1000, dtype=np.float32)[labels.numpy()])
    finally:
        np.random.set_state(state)
    return torch.from_numpy(np.asarray(attack.noise, dtype=np.float32))


def mad_scatter(results: Path, out: Path) -> None:
    """Figure 7: the MAD index of sC&W over that of C&W."""
    scores = read(results)
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 4))
    pairs = (("the same step", ".01", ".01"), ("each at its best step", ".01", ".0003"))
    for ax, (title, smooth, plain) in zip(axes, pairs, strict=True):
        a, b = scores[f"C&W, step {plain}"].mad, scores[f"sC&W, step {smooth}"].mad
        top = 1.05 * np.nanmax(np.stack([a, b])) or 1.0
        ax.plot([0, top], [0, top], color="gray", linewidth=0.8)
        ax.plot(a, b, "o", alpha=0.7)
        ax.set(xlabel=f"MAD of C&W, step {plain}", ylabel=f"MAD of sC&W, step {smooth}")
        ax.set(title=title, xlim=(-0.02 * top, top), ylim=(-0.02 * top, top))
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def characteristics(results: Path, out: Path) -> None:
    """The operating characteristics of kept results."""
    figure, ax = plt.subplots(figsize=(6.4, 4))
    for name in SHOWN:
        file = results / (name.replace(" ", "_").replace("&", "and") + ".json")
        distances = [np.inf if d is None else d for d in json.loads(file.read_text())["distances"]]
        d = np.sort(distances)
        share = np.arange(1, len(d) + 1) / len(d)
        ax.step(np.r_[0, d], np.r_[0, share], where="post", label=name)
    ax.set(xlabel="D, L2 on [0, 1]", ylabel="P(D)", xlim=(0, 1.5), ylim=(0, 1.02))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def main() -> None:
    """Draw the figure that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", choices=("magnified", "mad", "characteristics"))
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image", type=int, default=11)
    arguments = parser.parse_args()
    if arguments.figure == "magnified":
        magnified(arguments.out, arguments.image)
    elif arguments.results is None:
        parser.error(f"{arguments.figure} needs RESULTS")
    elif arguments.figure == "mad":
        mad_scatter(arguments.results, arguments.out)
    else:
        characteristics(arguments.results, arguments.out)


if __name__ == "__main__":
    main()
