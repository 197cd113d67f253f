"""Patch replacement as an ART preprocessor and, for layers, as an ART transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from art.defences.transformer.transformer import Transformer

from foolart.adapters.art.bridge import ArtModel
from foolart.adapters.art.preprocessors import TorchPreprocessor
from foolart.adapters.art.protected import check_pytorch, protected
from foolart.plugins.codebook import ProductQuantizer
from foolart.plugins.features import tapped
from foolart.plugins.guard import INPUT, find
from foolart.plugins.patch_grid import check_stride
from foolart.plugins.patches import PatchReplacer, check_strategy
from foolart.plugins.soft_assignment import Quantizer

Array = np.ndarray[Any, np.dtype[Any]]

# What a codebook is learnt by: a change makes another fit necessary.
_LEARNT_BY = ["codewords", "patch", "depth", "universal", "method", "points", "iterations", "seed"]
_USED_BY = ["stride", "strategy", "epsilon", "window", "offset", "gradient"]


class PatchReplacement(TorchPreprocessor):
    """Replace the patches of images by near patches of clean images.

    | Paper: Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021, chapter 6.

    | Limitations: it stops adversarials that were made without it, about as well as noise does;
      attacked through its straight-through gradient, next to nothing is left. See
      https://arxiv.org/abs/1802.00420 and this package's table of adaptive attacks.

    Args:
        codewords: K, the number of codewords of a channel.
        patch: Side of the patches.
        stride: Step between patches, at most their side; by default their side.
        strategy: ``"plain"``, ``"l2"``, ``"linf"`` or ``"linear"``; see
            :class:`foolart.plugins.patches.PatchReplacer`, also for the next four.
        epsilon: Strength of the strategy, in units of [0, 1]; None for ``"plain"``.
        window: Weights of overlapping patches.
        offset: Rows and columns by which the grid of patches is moved.
        gradient: ``"straight-through"``, ``"true"`` or ``"surrogate"``.
        depth: Channels of a patch, which divide those of the images.
        universal: One codebook for all slices of channels.
        method: ``"kmeans"``, ``"minibatch"`` or ``"sample"``; see
            :func:`foolart.plugins.codebook_fit.fit`, also for the next three.
        points: Patches to learn from.
        iterations: Passes over them.
        seed: Of sample and k-means.
        codebook: A codebook to use instead of learning one: a quantizer of
            :mod:`foolart.plugins.codebook`, or the path of a file.
        kwargs: Those of :class:`~foolart.adapters.art.preprocessors.TorchPreprocessor`.

    Raises:
        ValueError: If an argument is refused.
    """

    params: ClassVar[list[str]] = [*_LEARNT_BY, *_USED_BY, "codebook", *TorchPreprocessor.params]

    def __init__(
        self,
        codewords: int = 3927,
        patch: int = 3,
        stride: int | None = None,
        strategy: str = "plain",
        epsilon: float | None = None,
        *,
        window: str = "uniform",
        offset: tuple[int, int] = (0, 0),
        gradient: str = "straight-through",
        depth: int = 1,
        universal: bool = False,
        method: str = "kmeans",
        points: int | None = None,
        iterations: int | None = None,
        seed: int = 0,
        codebook: Quantizer | str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.codewords, self.patch, self.depth = codewords, patch, depth
        self.universal, self.method, self.points = universal, method, points
        self.iterations, self.seed = iterations, seed
        self.stride, self.strategy, self.epsilon = stride, strategy, epsilon
        self.window, self.offset, self.gradient = window, offset, gradient
        self.codebook: Any = codebook
        self._check_params()

    def set_params(self, **kwargs: Any) -> None:
        """Change parameters; another one to learn a codebook by makes another ``fit`` necessary."""
        if any(name in _LEARNT_BY for name in kwargs):
            kwargs.setdefault("codebook", None)
        super().set_params(**kwargs)

    def build(self) -> PatchReplacer | None:
        """The defence with the present parameters, None without a codebook."""
        check_strategy(self.strategy, self.epsilon)
        if isinstance(self.codebook, str | Path):
            self.codebook = ProductQuantizer.load(self.codebook)
        self._is_fitted = self.codebook is not None
        if self.codebook is None:
            check_stride(self.stride, (self.patch, self.patch))
            return None
        return PatchReplacer(
            self.codebook,
            stride=self.stride,
            strategy=self.strategy,
            epsilon=self.epsilon,
            window=self.window,
            offset=(int(self.offset[0]), int(self.offset[1])),
            gradient=self.gradient,
        )

    def fit(self, x: Any, y: Any = None, **kwargs: Any) -> None:
        """Learn the codebook from clean images.

        Args:
            x: Images like those to defend, an array ``(N, ...)``, or an iterable of such batches,
                which may be tuples with labels.
            y: Not used.
            kwargs: ``progress``, called as ``progress(stage, done, total)``.

        Raises:
            ValueError: If the images do not suffice or do not fit.
        """
        batches = [x] if isinstance(x, np.ndarray | torch.Tensor) else x
        self.learn((self.scaled(torch.as_tensor(_images(b)).float()) for b in batches), **kwargs)

    def learn(self, maps: Iterable[torch.Tensor], *, progress: Any = None) -> None:
        """Learn the codebook from maps ``(N, D, H, W)`` as they are, such as a layer's features."""
        codebook = ProductQuantizer.fit(
            maps,
            int(self.codewords),
            patch=int(self.patch),
            depth=int(self.depth),
            # Learning needs no overlap, and no other patches than those that will be replaced.
            stride=int(self.patch if self.stride is None else self.stride),
            universal=self.universal,
            method=self.method,
            points=self.points,
            iterations=self.iterations,
            seed=self.seed,
            progress=progress,
        )
        self.set_params(codebook=codebook)


class PatchReplacementTransformer(Transformer):
    """Replace patches of the input and of the features of layers: a new, protected classifier.

    The classifier is left as it is. The new one has a deep copy of its network, in which the named
    modules are wrapped, codebooks as buffers, and an optimizer of its own.

    | Paper: Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021, chapter 6.

    | Limitations: as of :class:`PatchReplacement`, in every layer that was tried.

    Args:
        classifier: A PyTorch classifier, undefended.
        layers: For each name of ``classifier.model.named_modules()``, what to do with its output,
            in the units of the features; under ``"input"``, what to do with the images. Those
            without a codebook are learnt by :meth:`fit`.

    Raises:
        ValueError: If a layer does not exist or the classifier is not PyTorch's.
    """

    params: ClassVar[list[str]] = ["layers"]

    def __init__(self, classifier: Any, layers: Mapping[str, PatchReplacement]) -> None:
        super().__init__(classifier=classifier)
        self.layers = dict(layers)
        self._check_params()

    def fit(
        self,
        x: Array,
        y: Array | None = None,
        *,
        batch_size: int = 32,
        progress: Callable[[str, int, int | None], None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Learn the codebooks of all layers that have none, each on the undefended network.

        Args:
            x: Clean images, as the classifier takes them.
            y: Not used.
            batch_size: Images in memory at a time.
            progress: Called as ``progress(stage, done, total)``.
            kwargs: Not used.
        """
        for name, replacement in self.layers.items():
            if replacement.is_fitted:
                continue
            if name == INPUT:
                replacement.fit(x, progress=progress)
            else:
                replacement.learn(features(self.classifier, name, x, batch_size), progress=progress)
        self._is_fitted = True

    def __call__(self, x: Array | None = None, transformed_classifier: Any = None) -> Any:
        """The protected classifier.

        Args:
            x: Clean images to learn missing codebooks from.
            transformed_classifier: The classifier to protect, by default the one that codebooks are
                learnt on.

        Raises:
            ValueError: If a codebook is missing and there are no images.
        """
        missing = [name for name, replacement in self.layers.items() if not replacement.is_fitted]
        if missing and x is None:
            raise ValueError(
                f"expected a codebook for {', '.join(map(repr, missing))}: call fit(images) first"
            )
        if x is not None:
            self.fit(x)
        classifier = self.classifier if transformed_classifier is None else transformed_classifier
        defences = {n: r.defence for n, r in self.layers.items() if n != INPUT and r.defence}
        own = [self.layers[INPUT]] if INPUT in self.layers else []
        return protected(classifier, defences, preprocessors=own)

    def _check_params(self) -> None:
        check_pytorch(self.classifier)
        for name, replacement in self.layers.items():
            if not isinstance(replacement, PatchReplacement):
                raise ValueError(
                    f"expected a PatchReplacement for {name!r}, got {type(replacement).__name__}"
                )
            if name != INPUT:
                find(self.classifier.model, name)
        self._is_fitted = all(r.is_fitted for r in self.layers.values())


def features(classifier: Any, layer: str, x: Array, batch_size: int = 32) -> Iterator[torch.Tensor]:
    """The outputs of a layer of a classifier for images ``x``, batch by batch."""
    model = ArtModel(classifier)
    with tapped(classifier.model, layer) as maps:
        for start in range(0, len(x), batch_size):
            batch = np.asarray(x[start : start + batch_size], dtype=np.float32)
            model(model.from_numpy(batch).raw)
            yield maps().detach()


def _images(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple | list) else batch
