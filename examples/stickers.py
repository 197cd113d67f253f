"""A sticker that makes a network see a toaster in several photographs (RP2), ready to be printed.

python examples/stickers.py [--count 2] [--steps 60] [--out sticker]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import foolbox as fb
import torch

from foolart.adapters.foolbox import RobustPhysicalPerturbationsAttack
from foolart.adapters.sticker_file import load_sticker, save_sticker
from foolart.evaluation.models import load_model
from foolart.plugins.transformations import Transformations

TOASTER = 859


def main(count: int, steps: int, out: Path) -> None:
    fmodel = load_model("efficientnet-lite0").foolbox
    photographs, _ = fb.utils.samples(fmodel, dataset="imagenet", batchsize=count)
    mask = torch.zeros(224, 224)
    mask[96:208, 96:208] = 1  # where the sticker is: no pixel elsewhere changes
    targets = fb.criteria.TargetedMisclassification(torch.full((count,), TOASTER))

    attack = RobustPhysicalPerturbationsAttack(
        steps=steps,
        stepsize=0.05,
        lam=0.0,  # an opaque sticker need not be faint
        compose="replace",
        transformations=Transformations(brightness=0.2, rotation=5),
    )
    sticker = attack.sticker(fmodel, photographs, targets, mask=mask)

    out.mkdir(exist_ok=True)
    save_sticker(sticker, out / "sticker.safetensors")  # exactly
    save_sticker(sticker, out / "sticker.png")  # 8 bits, to be printed
    printed = load_sticker(out / "sticker.png")
    for name, images in {
        "without": photographs,
        "as computed": sticker(photographs),
        "as PNG": printed(photographs),
    }.items():
        toasters = int((fmodel(images).argmax(-1) == TOASTER).sum())
        print(f"{name:12} {toasters} of {count} photographs are toasters")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("sticker"))
    arguments = parser.parse_args()
    main(arguments.count, arguments.steps, arguments.out)
