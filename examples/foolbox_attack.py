"""For Foolbox users: attack an ImageNet network, save PNGs, read them again, and ask the network.

python examples/foolbox_attack.py [--count 10] [--out adversarial-pngs]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import foolbox as fb
import numpy as np
import torch
from PIL import Image

from foolart.adapters.foolbox import BoundaryProjectionAttack, Quantized
from foolart.evaluation.models import load_model


def main(count: int, out: Path) -> None:
    # Any Foolbox model will do; this one has bounds (0, 1) and weights that pip brought along.
    fmodel = load_model("efficientnet-lite0").foolbox
    images, labels = fb.utils.samples(fmodel, dataset="imagenet", batchsize=count)
    right = fmodel(images).argmax(-1) == labels
    images, labels = images[right], labels[right]
    print(f"{len(images)} of {count} images are correctly classified: these are attacked")

    ddn = fb.attacks.DDNAttack(steps=20)
    attacks = {
        "DDN-20": ddn,
        "DDN-20, then Q_lambda": Quantized(ddn),
        "BP-20": BoundaryProjectionAttack(steps=20),
    }
    out.mkdir(exist_ok=True)
    print(f"{'attack':24}{'fools':>8}{'as PNG':>8}{'median L2 of the PNGs that fool':>34}")
    for name, attack in attacks.items():
        _, clipped, success = attack(fmodel, images, labels, epsilons=None)
        read = torch.stack([saved(image, out / f"{i}.png") for i, image in enumerate(clipped)])
        fooled = fmodel(read).argmax(-1) != labels
        l2 = (read - images).flatten(1).norm(dim=1)[fooled]
        median = f"{l2.median():.3f}" if len(l2) else "-"
        print(f"{name:24}{int(success.sum()):8}{int(fooled.sum()):8}{median:>34}")


def saved(image: torch.Tensor, path: Path) -> torch.Tensor:
    """Write an image in [0, 1] as PNG, and read it again."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("adversarial-pngs"))
    arguments = parser.parse_args()
    main(arguments.count, arguments.out)
