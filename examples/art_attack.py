"""For ART users: attack a classifier through its defence, and without knowing of it.

python examples/art_attack.py [--count 10]
"""

from __future__ import annotations

import argparse

import foolbox as fb
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

from foolart.adapters.art import BitDepthReduction, BoundaryProjection, FoolboxAttack
from foolart.evaluation.data import load_data
from foolart.evaluation.models import efficientnet_lite0


def main(count: int) -> None:
    network = efficientnet_lite0()
    data = load_data(f"foolbox:imagenet(count={count})")
    x = data.images(0, count).astype(np.float32) / 255  # (N, 3, 224, 224)
    y = data.labels

    def classifier(*defences: BitDepthReduction) -> PyTorchClassifier:
        return PyTorchClassifier(
            model=network.module,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=x.shape[1:],
            nb_classes=1000,
            clip_values=(0.0, 1.0),
            preprocessing=(network.mean, network.std),  # ART applies it after the defences
            preprocessing_defences=list(defences),
        )

    plain, defended = classifier(), classifier(BitDepthReduction(3))
    right = plain.predict(x).argmax(1) == y
    x, y = x[right], y[right]
    print(f"{len(x)} of {count} images are correctly classified: these are attacked")

    attacks = {
        "DDN-20 of Foolbox, transferred": FoolboxAttack(
            plain, fb.attacks.DDNAttack(steps=20), verbose=False
        ),
        "BP-20, transferred": BoundaryProjection(plain, verbose=False),
        "BP-20, through the defence": BoundaryProjection(defended, verbose=False),
    }
    print(f"{'accuracy of':34}{'no defence':>12}{'3 bits':>10}")
    rows = {"clean images": x}
    for name, attack in attacks.items():
        rows[name] = attack.generate(x, y)
    for name, images in rows.items():
        accuracies = [(c.predict(images).argmax(1) == y).mean() for c in (plain, defended)]
        print(f"{name:34}{accuracies[0]:12.0%}{accuracies[1]:10.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10)
    main(parser.parse_args().count)
