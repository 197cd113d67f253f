"""The defences of studies/patch_replacement.py, and the codebooks that they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foolart.adapters.art import art_preprocessor
from foolart.evaluation.inspection import activations
from foolart.evaluation.models import LoadedModel
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


def plain(books: Books, network: nn.Module) -> Defences:
    """Patch replacement of the image, as the thesis has it."""
    return [
        ("patches, K = 3927", lambda: PatchReplacer(books(3927))),
        ("patches, K = 392", lambda: PatchReplacer(books(392))),
    ]


def made(defences: Defences, only: list[str] | None) -> list[tuple[str, Any]]:
    """The defences, or those of them with these labels."""
    labels = [label for label, _ in defences]
    for label in only or ():
        if label not in labels:
            raise SystemExit(f"no defence {label!r} in this study: choose from {', '.join(labels)}")
    return [(label, make()) for label, make in defences if only is None or label in only]
