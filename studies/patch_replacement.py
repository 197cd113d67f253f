"""Patch replacement and its rivals against attackers who know them.

python studies/patch_replacement.py --data imagenet.npz --out FOLDER [--study NAME] [--images 20]

Studies:
  defences  patch replacement, the comparison defences and ART's JPEG around EfficientNet-Lite0
  better    tries at making patch replacement better: two layers, later layers, overlap, strategies,
            K, randomised codebooks and grids
  robust    patch replacement on a clean and on a PGD-trained MNIST network (needs --mnist and
            --networks, the folder with mnist_lenet5_clean.npz and mnist_lenet5_adv_linf03.npz)

The npz file holds "images" (N, 224, 224, 3), uint8, and "labels". Codebooks are learnt from its
first 100 images, attacks run on the next: the two never meet. An interrupted run is gone on with.
Each table is printed and written to FOLDER/STUDY.md: accuracy with Wilson's 95 % intervals, under
each threat model what is left when no attack of that kind succeeds within the L2 budget, and what
is left under all of them together, image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.preprocessor import JpegCompression
from torch import nn

from foolart.adapters.art import PreprocessorModule
from foolart.adapters.foolbox.defend import network_of
from foolart.evaluation.engine import evaluate
from foolart.evaluation.inspection import activations
from foolart.evaluation.models import LoadedModel, load_model
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.specs import Spec
from foolart.evaluation.summary import Robustness
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
THREATS = ("transfer", "decision", "true-gradient", "bpda", "bpda-smooth", "bpda-eot", "white-box")

Defences = list[tuple[str, Any]]


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
    cam = ActivationMap(Normalised(network), "network._swish", "network._fc")
    return [
        ("bit depth 3", BitDepthReduction(3)),
        ("bit depth 5", BitDepthReduction(5)),
        ("median 2", MedianSmoothing(2)),
        ("median 3", MedianSmoothing(3)),
        ("bilateral", BilateralFilter()),
        ("JPEG 75 (ART)", PreprocessorModule(JpegCompression((0, 1), 75, channels_first=True))),
        ("pixel deflection", PixelDeflection(activation=cam)),
        ("Gaussian noise .05", GaussianNoise(0.05)),
        ("Gaussian noise .224", GaussianNoise(0.05**0.5)),
        ("patches, K = 392", PatchReplacer(books(392))),
        ("patches, K = 3927", PatchReplacer(books(3927))),
        ("E8 lattice, s = .1", PatchReplacer(E8Lattice(0.1, (1, 2, 4)))),
    ]


def tries(books: Books, network: nn.Module) -> Defences:
    """What might make patch replacement better."""
    first, later = "_blocks.0", "_blocks.5"

    def layer(name: str, k: int, **how: Any) -> PatchReplacer:
        return PatchReplacer(books(k, name, depth=4), **how)

    def offsets(k: int) -> list[nn.Module]:
        return [PatchReplacer(books(k), offset=(i, j)) for i in range(3) for j in range(3)]

    soft = {"strategy": "linf", "epsilon": 0.5}
    return [
        ("K = 392", PatchReplacer(books(392))),
        ("K = 3927", PatchReplacer(books(3927))),
        ("K = 392, overlap", PatchReplacer(books(392), stride=1)),
        ("K = 3927, overlap", PatchReplacer(books(3927), stride=1)),
        ("K = 392, linf .1", PatchReplacer(books(392), strategy="linf", epsilon=0.1)),
        ("first block, K = 8000", {first: layer(first, 8000)}),
        ("first block, K = 8000, linf .5", {first: layer(first, 8000, **soft)}),
        (
            "image and first block",
            {INPUT: PatchReplacer(books(3927)), first: layer(first, 8000, **soft)},
        ),
        ("sixth block, K = 4000", {later: layer(later, 4000)}),
        ("random grid, K = 392", RandomChoice(offsets(392))),
        (
            "random codebook and grid",
            RandomChoice([*offsets(196), *offsets(392), *offsets(785)]),
        ),
        ("K = 392, then noise .05", nn.Sequential(PatchReplacer(books(392)), GaussianNoise(0.05))),
    ]


def imagenet(arguments: argparse.Namespace, defences: Callable[..., Defences]) -> Scenario:
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
        attacks=ATTACKS,
        defences=defences(books, network_of(model.foolbox)),
        variants=["rounded"],
        threats=["white-box", "transfer", "adaptive"],
        budgets=[arguments.budget or 1.0],
        compute_batch=10,
    )


ATTACKS = [
    {"name": "ddn", "steps": 20, "label": "DDN-20"},
    {"name": "pgd-l2", "steps": 20, "epsilon": 1.0, "label": "PGD2-20"},
    {
        "name": "hop-skip-jump",
        "steps": 3,
        "initial_gradient_eval_steps": 10,
        "max_gradient_eval_steps": 20,
        "label": "HopSkipJump-3",
    },
]


def robust(arguments: argparse.Namespace) -> Scenario:
    """Patch replacement on top of adversarial training, on MNIST."""
    with np.load(arguments.mnist) as data:
        clean = data["train_images"][:2000, None]
        count = arguments.images
        images, labels = data["test_images"][:count], data["test_labels"][:count]
    books = Books(arguments.out / "codebooks-mnist", clean)
    files = {"clean": "mnist_lenet5_clean.npz", "PGD-trained": "mnist_lenet5_adv_linf03.npz"}
    networks = {name: LeNet(arguments.networks / file).eval() for name, file in files.items()}
    return Scenario(
        name="patch replacement on a robust network",
        models=[(name, net.requires_grad_(False)) for name, net in networks.items()],
        data=[("MNIST", (images, labels))],
        attacks=[
            {"name": "ddn", "steps": 100, "label": "DDN-100"},
            {"name": "pgd-l2", "steps": 100, "epsilon": 1.5, "label": "PGD2-100"},
            {"name": "pgd-linf", "steps": 100, "epsilon": 0.3, "label": "PGD-100"},
        ],
        defences=[
            ("patches, K = 50", PatchReplacer(books(50))),
            ("patches, K = 500", PatchReplacer(books(500))),
            ("Gaussian noise .224", GaussianNoise(0.05**0.5)),
        ],
        variants=["rounded"],
        threats=["white-box", "transfer", "adaptive"],
        budgets=[arguments.budget or 1.5],
        compute_batch=50,
    )


STUDIES: dict[str, Callable[[argparse.Namespace], Scenario]] = {
    "defences": lambda arguments: imagenet(arguments, rivals),
    "better": lambda arguments: imagenet(arguments, tries),
    "robust": robust,
}


def table(found: tuple[Robustness, ...], labels: dict[str, int]) -> str:
    """The robustness of every defence as Markdown, in the order in which they were given."""
    rows = sorted(found, key=lambda item: (item.model, labels.get(item.defence, -1)))
    known = [t for t in THREATS if any(t in item.threats for item in rows)]
    head = ["model", "defence", "clean", *known, "worst case", "signs of hidden gradients"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for item in rows:
        cells = [item.model, item.defence or "none", percent(item.clean)]
        cells += [percent(item.threats[t]) if t in item.threats else "" for t in known]
        cells += [percent(item.worst), "; ".join(item.flags)]
        lines.append("| " + " | ".join(cells) + " |")
    budget, images = rows[0].budget, rows[0].images
    return f"L2 budget {budget:g}, {images} images, percent correct.\n\n" + "\n".join(lines) + "\n"


def percent(estimate: Any) -> str:
    """An estimate and its interval."""
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.0f} ({low:.0f} to {high:.0f})"


def main() -> None:
    """Run the study that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", choices=list(STUDIES), default="defences")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--learn-only", action="store_true", help="stop after the codebooks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scenario = STUDIES[arguments.study](arguments)
    if arguments.learn_only:
        return
    results = evaluate(scenario, arguments.out / arguments.study, tell)
    order = {spec.label: k for k, spec in enumerate(scenario.defences)}
    text = table(results.summary.robustness, order)
    (arguments.out / f"{arguments.study}.md").write_text(text)
    print(text)


def tell(done: int, total: int, what: str) -> None:
    """Say how far the study is."""
    print(f"{done}/{total} {what}", flush=True)


if __name__ == "__main__":
    main()
