"""Patch replacement and its rivals against attackers who know them.

python studies/patch_replacement.py --data imagenet.npz --out FOLDER [--study NAME] [--images 20]

Studies:
  defences  patch replacement, the comparison defences and ART's own around EfficientNet-Lite0
  smooth    the smooth attack sC&W against patch replacement, beside DDN
  better    tries at making patch replacement better: two layers, later layers, overlap, strategies,
            K, randomised codebooks and grids
  mnist     the same tries on MNIST, around the LeNet whose weights are in --weights: a clean and
            a PGD-trained one are worth a comparison

For the first three, the npz file holds "images" (N, 224, 224, 3), uint8, and "labels"; codebooks
are learnt from its first 100 images, attacks run on the next: the two never meet. For the last, it
holds "train_images", to learn codebooks from, "test_images" (N, 28, 28) and "test_labels".

An interrupted run is gone on with. The table of accuracies is printed and written to FOLDER, with
Wilson's 95 % intervals: for each threat model what is left when no attack of that kind succeeds
within the L2 budget, and what is left under all of them together, image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foolart.adapters.art import art_preprocessor
from foolart.adapters.foolbox.defended_model import network_of
from foolart.evaluation.engine import evaluate
from foolart.evaluation.inspection import activations
from foolart.evaluation.models import LoadedModel, load_model
from foolart.evaluation.reporting.documents import defence_tables
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.specs import Spec
from foolart.plugins.codebook import E8Lattice, ProductQuantizer
from foolart.plugins.deflection import ActivationMap, PixelDeflection
from foolart.plugins.filters import (
    BilateralFilter,
    BitDepthReduction,
    GaussianNoise,
    MedianSmoothing,
)
from foolart.plugins.guard import INPUT
from foolart.plugins.patches import PatchReplacer
from foolart.plugins.randomised import RandomChoice

LEARNT_FROM = 100
# Made when they are run: some have codebooks to learn.
Defences = list[tuple[str, Callable[[], Any]]]


class Books:
    """Codebooks, learnt when they are first needed and kept in a folder."""

    def __init__(self, folder: Path, images: np.ndarray, model: LoadedModel | None = None) -> None:
        self.folder, self.images, self.model = folder, images, model
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, k: int, layer: str = INPUT, *, depth: int = 1) -> ProductQuantizer:
        """The codebook with K codewords for each ``depth`` channels of a layer's output."""
        path = self.folder / f"{layer}-{k}-{depth}.safetensors"
        if not path.is_file():
            method = "kmeans" if layer == INPUT else "minibatch"
            print(f"learning {path.name}", flush=True)
            ProductQuantizer.fit(
                self.maps(layer), k, depth=depth, stride=1, points=73 * k, method=method
            ).save(path)
        return ProductQuantizer.load(path, shape=(depth, 3, 3))

    def maps(self, layer: str) -> Any:
        """The images, or what a layer makes of them, in batches."""
        for start in range(0, len(self.images), 10):
            x = torch.from_numpy(self.images[start : start + 10]).float() / 255
            if layer != INPUT:
                assert self.model is not None
                x = activations(self.model.foolbox, x, [layer])[0][layer]
            yield x


class LeNet(nn.Module):
    """The MNIST networks of advertorch."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.linear1 = nn.Linear(3136, 200)
        self.linear2 = nn.Linear(200, 10)
        with np.load(weights) as arrays:
            self.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of images ``(N, 1, 28, 28)`` in [0, 1]."""
        for convolution in (self.conv1, self.conv2):
            x = nn.functional.max_pool2d(convolution(x).relu(), 2)
        logits: torch.Tensor = self.linear2(self.linear1(x.flatten(1)).relu())
        return logits


class Normalised(nn.Module):
    """EfficientNet-Lite0 on [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits: torch.Tensor = self.network((255 * x - 127) / 128)
        return logits


def rivals(books: Books, network: nn.Module) -> Defences:
    """What the thesis compares, its control, and the lattice."""

    def deflection() -> nn.Module:
        cam = ActivationMap(Normalised(network), "network._swish", "network._fc")
        return PixelDeflection(activation=cam)

    return [
        ("Gaussian noise .05 (control)", lambda: GaussianNoise(0.05)),
        ("patches, K = 3927", lambda: PatchReplacer(books(3927))),
        ("patches, K = 392", lambda: PatchReplacer(books(392))),
        ("E8 lattice, s = .1", lambda: PatchReplacer(E8Lattice(0.1, (1, 2, 4)))),
        ("bit depth 3", lambda: BitDepthReduction(3)),
        ("median 3", lambda: MedianSmoothing(3)),
        ("bilateral", lambda: BilateralFilter()),
        ("JPEG 75 (ART)", lambda: art_preprocessor("JpegCompression", quality=75)),
        (
            "FeatureSqueezing, 5 bits (ART)",
            lambda: art_preprocessor("FeatureSqueezing", bit_depth=5),
        ),
        ("SpatialSmoothing 2 (ART)", lambda: art_preprocessor("SpatialSmoothing", window_size=2)),
        ("Gaussian noise .224 (control)", lambda: GaussianNoise(0.05**0.5)),
        ("pixel deflection", deflection),
        ("TotalVarMin (ART)", lambda: art_preprocessor("TotalVarMin")),
    ]


def tries(books: Books, small: int, large: int, first: str, later: str) -> Defences:
    """What might make patch replacement better.

    Args:
        books: The codebooks.
        small: K of a coarse codebook of the image.
        large: K of a fine one, and of those of layers.
        first: The name of an early layer.
        later: The name of a later layer.
    """

    def layer(name: str, **how: Any) -> PatchReplacer:
        return PatchReplacer(books(large, name, depth=4), **how)

    def offsets(k: int) -> list[nn.Module]:
        return [PatchReplacer(books(k), offset=(i, j)) for i in range(3) for j in range(3)]

    soft: dict[str, Any] = {"strategy": "linf", "epsilon": 0.5}

    def both() -> Any:
        return {INPUT: PatchReplacer(books(large)), first: layer(first, **soft)}

    def grids() -> nn.Module:
        return RandomChoice([*offsets(small // 2), *offsets(small), *offsets(2 * small)])

    return [
        ("Gaussian noise .224 (control)", lambda: GaussianNoise(0.05**0.5)),
        (f"K = {small}", lambda: PatchReplacer(books(small))),
        (f"K = {large}", lambda: PatchReplacer(books(large))),
        (f"K = {small}, overlap", lambda: PatchReplacer(books(small), stride=1)),
        (
            f"K = {small}, linf .1",
            lambda: PatchReplacer(books(small), strategy="linf", epsilon=0.1),
        ),
        (first, lambda: {first: layer(first)}),
        (f"{first}, linf .5", lambda: {first: layer(first, **soft)}),
        (f"image and {first}, linf .5", both),
        (later, lambda: {later: layer(later)}),
        (f"random grid, K = {small}", lambda: RandomChoice(offsets(small))),
        ("random codebook and grid", grids),
        (
            f"K = {small}, then noise .05",
            lambda: nn.Sequential(PatchReplacer(books(small)), GaussianNoise(0.05)),
        ),
    ]


def made(defences: Defences, only: list[str] | None) -> list[tuple[str, Any]]:
    """The defences, or those of them with these labels."""
    labels = [label for label, _ in defences]
    for label in only or ():
        if label not in labels:
            raise SystemExit(f"no defence {label!r} in this study: choose from {', '.join(labels)}")
    return [(label, make()) for label, make in defences if only is None or label in only]


def imagenet(
    arguments: argparse.Namespace,
    defences: Callable[..., Defences],
    attacked: list[Any] | None = None,
) -> Scenario:
    """Defences around EfficientNet-Lite0."""
    with np.load(arguments.data) as data:
        images, labels = data["images"].transpose(0, 3, 1, 2), data["labels"]
    model = load_model(Spec.of("efficientnet-lite0", "model"))
    books = Books(arguments.out / "codebooks", images[:LEARNT_FROM], model)
    test = slice(LEARNT_FROM, LEARNT_FROM + arguments.images)
    return Scenario(
        name=f"patch replacement: {arguments.study}",
        models=["efficientnet-lite0"],
        data=[("ImageNet", (images[test].transpose(0, 2, 3, 1), labels[test]))],
        attacks=attacked or attacks(arguments.steps, arguments.budget or 1.0, images[0].size),
        defences=made(defences(books, network_of(model.foolbox)), arguments.only),
        variants=["rounded"],
        threats=["white-box", "transfer", "adaptive"],
        budgets=[arguments.budget or 1.0],
        # The graph of ten draws of five images takes 4 GB.
        compute_batch=min(arguments.images, 5),
    )


# A token: within a budget as small as this it would need thousands of queries.
DECISION = {
    "name": "hop-skip-jump",
    "steps": 2,
    "initial_gradient_eval_steps": 10,
    "max_gradient_eval_steps": 20,
    "label": "HopSkipJump-2",
}


def attacks(steps: int, budget: float, values: int) -> list[Any]:
    """One for the smallest distance, one for the whole budget, one without gradients.

    Rounding a dense perturbation to levels adds the variance of rounding, 1/12 of a squared level
    for each of the ``values`` of an image: the second leaves room for it, and 2 % more, or none of
    its adversarials would count.
    """
    room = 0.98 * (budget**2 - values / 12 / 255**2) ** 0.5
    return [
        {"name": "ddn", "steps": steps, "label": f"DDN-{steps}"},
        {
            "name": "pgd-l2",
            "steps": steps,
            "epsilon": round(room, 3),
            # Far enough to cross the whole ball and a half of it.
            "rel_stepsize": 2.5 / steps,
            "random_start": False,
            "label": f"PGD2-{steps}",
        },
        DECISION,
    ]


def mnist(arguments: argparse.Namespace) -> Scenario:
    """The tries on MNIST, where a network that was trained on adversarials is at hand."""
    if arguments.weights is None:
        raise SystemExit("study mnist needs --weights")
    with np.load(arguments.data) as data:
        clean = data["train_images"][:1000, None]
        test = slice(arguments.images)
        images, labels = data["test_images"][test], data["test_labels"][test]
    network = LeNet(arguments.weights).eval().requires_grad_(False)
    model = load_model(Spec.of(("LeNet", network), "model"))
    books = Books(arguments.out / f"codebooks-{arguments.weights.stem}", clean, model)
    return Scenario(
        name="patch replacement: mnist",
        models=[(arguments.weights.stem, network)],
        data=[("MNIST", (images, labels))],
        attacks=attacks(arguments.steps, arguments.budget or 1.5, images[0].size),
        defences=made(tries(books, 50, 500, "conv1", "conv2"), arguments.only),
        variants=["rounded"],
        threats=["white-box", "transfer", "adaptive"],
        budgets=[arguments.budget or 1.5],
        compute_batch=min(arguments.images, 20),
    )


def plain(books: Books, network: nn.Module) -> Defences:
    """Patch replacement of the image, as the thesis has it."""
    return [
        ("patches, K = 3927", lambda: PatchReplacer(books(3927))),
        ("patches, K = 392", lambda: PatchReplacer(books(392))),
    ]


SMOOTH = [
    {"name": "smooth-cw", "steps": 40, "binary_search_steps": 3, "label": "sC&W-3x40"},
    {"name": "ddn", "steps": 20, "label": "DDN-20"},
]
STUDIES: dict[str, Callable[[argparse.Namespace], Scenario]] = {
    "defences": lambda arguments: imagenet(arguments, rivals),
    "smooth": lambda arguments: imagenet(arguments, plain, SMOOTH),
    "better": lambda arguments: imagenet(
        arguments, lambda books, _: tries(books, 392, 3927, "_blocks.0", "_blocks.5")
    ),
    "mnist": mnist,
}


def main() -> None:
    """Run the study that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", choices=list(STUDIES), default="defences")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="of the gradient attacks")
    parser.add_argument("--budget", type=float, help="L2, images in [0, 1]")
    parser.add_argument("--weights", type=Path, help="of the LeNet of study mnist, npz")
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="of the defences, some")
    parser.add_argument("--learn-only", action="store_true", help="stop after the codebooks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scenario = STUDIES[arguments.study](arguments)
    if arguments.learn_only:
        return
    name = arguments.study + (f"-{arguments.weights.stem}" if arguments.weights else "")
    results = evaluate(scenario, arguments.out / name, tell)
    text = defence_tables(results.summary)
    (arguments.out / f"{name}.md").write_text(text)
    print(text)


def tell(done: int, total: int, what: str) -> None:
    """Say how far the study is."""
    print(f"{done}/{total} {what}", flush=True)


if __name__ == "__main__":
    main()
