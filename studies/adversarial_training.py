"""Adversarial training on MNIST with different reference attacks (thesis, table 5.5).

python studies/adversarial_training.py --mnist mnist.npz --out FOLDER [--train 2000] [--epochs 3]

The thesis's network C4 is trained on clean images, then fine-tuned with each reference attack, and
attacked by DDN, BP and PGD2. On a CPU a few thousand images and epochs must do; the thesis's
setting is --train 60000 --clean-epochs 20 --epochs 30 --images 1000 --device cuda. The npz file
holds train_images (N, 28, 28), train_labels, test_images and test_labels.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import load_file
from torch import nn

from foolart.adapters.art import (
    AdversarialTraining,
    BoundaryProjection,
    FoolboxAttack,
    StepLeastLikely,
)
from foolart.adapters.weights import save_weights
from foolart.evaluation.engine import evaluate
from foolart.evaluation.networks import c4
from foolart.evaluation.scenario import Scenario

# As many steps as in the thesis; sizes are those of its MNIST experiments.
REFERENCES: dict[str, Callable[[Any], EvasionAttack]] = {
    "FGSM": lambda c: FastGradientMethod(c, eps=0.3, batch_size=100),
    "step least likely": lambda c: StepLeastLikely(c, eps=0.3, batch_size=100),
    "PGD2": lambda c: ProjectedGradientDescent(
        c, norm=2, eps=2.0, eps_step=0.25, max_iter=20, batch_size=100, verbose=False
    ),
    "DDN": lambda c: FoolboxAttack(
        c, foolbox.attacks.DDNAttack(steps=20), batch_size=100, verbose=False
    ),
    "BP": lambda c: BoundaryProjection(c, max_iter=20, batch_size=100, verbose=False),
}


def classifier(network: nn.Module, device: str) -> PyTorchClassifier:
    """The network as ART trains it."""
    return PyTorchClassifier(
        network,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
        input_shape=(1, 28, 28),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device == "cpu" else "gpu",
    )


def kept(path: Path, make: Callable[[], nn.Module]) -> nn.Module:
    """A network from its file, or made and written there."""
    if path.is_file():
        network = c4()
        network.load_state_dict(load_file(path))
        return network
    network = make().cpu().eval()
    save_weights(network, path)
    return network


def main() -> None:
    """Train what is not there yet, attack, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--clean-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with np.load(arguments.mnist) as data:
        x = data["train_images"][: arguments.train, None].astype(np.float32) / 255
        y = data["train_labels"][: arguments.train]
        test = (
            data["test_images"][: arguments.images, None],
            data["test_labels"][: arguments.images],
        )

    def clean() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = c4()
            classifier(network, arguments.device).fit(
                x, y, batch_size=100, nb_epochs=arguments.clean_epochs
            )
        return network

    def tuned(name: str) -> nn.Module:
        own = classifier(copy.deepcopy(networks["baseline"]), arguments.device)
        AdversarialTraining(own, REFERENCES[name](own)).fit(
            x, y, batch_size=100, nb_epochs=arguments.epochs, progress=tell(name)
        )
        network: nn.Module = own.model
        return network

    # Networks of other settings may be in the same folder.
    begun = f"{arguments.train}-{arguments.clean_epochs}"
    networks = {"baseline": kept(arguments.out / f"baseline-{begun}.safetensors", clean)}
    for name in REFERENCES:
        file = f"{name.replace(' ', '-')}-{begun}-{arguments.epochs}.safetensors"
        networks[name] = kept(arguments.out / file, lambda name=name: tuned(name))
    scenario = Scenario(
        name="adversarial training",
        models=[(name, net.eval().requires_grad_(False)) for name, net in networks.items()],
        data=[("MNIST", test)],
        attacks=[
            {"name": "pgd-l2", "steps": 100, "epsilon": 2.0, "label": "PGD2-100"},
            *({"name": "ddn", "steps": n, "label": f"DDN-{n}"} for n in (20, 100)),
            *({"name": "boundary-projection", "steps": n, "label": f"BP-{n}"} for n in (20, 100)),
        ],
        variants=["rounded"],
        budgets=[2.0],
        compute_batch=50,
        device=arguments.device,
    )
    results = evaluate(scenario, arguments.out / "evaluation")
    print(table(results.summary))


def tell(name: str) -> Callable[[int, int], None]:
    """Say how far a training is."""
    return lambda done, total: print(f"{name}: epoch {done} of {total}", flush=True)


def table(summary: Any) -> str:
    """Table 5.5: P_suc, mean distance of the successes, P_upp within distance 2."""
    clean = {item.model: item.accuracy.value for item in summary.clean}
    lines = ["| defence | clean | attack | P_suc | mean D | P_upp |", "|" + " --- |" * 6]
    for row in summary.rows:
        mean = "" if row.mean.value is None else f"{row.mean.value:.2f}"
        accuracy = clean.get(row.line.model)
        cells = [row.line.model, "" if accuracy is None else f"{accuracy:.3f}", row.line.attack]
        if row.p_suc.value is None:
            cells += [row.error, "", ""]
        else:
            cells += [f"{row.p_suc.value:.2f}", mean]
            cells += [f"{next(iter(row.p_upp.values())).value:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
