"""BlurNet as an ART transformer, preprocessor and trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from art.defences.trainer.trainer import Trainer
from art.defences.transformer.transformer import Transformer
from art.utils import check_and_transform_label_format
from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

from foolart.adapters.art.preprocessors import FilterPreprocessor
from foolart.adapters.art.protected import check_pytorch, protected
from foolart.adapters.training import Epoch, Training, fit
from foolart.plugins.blurnet import Blur, DepthwiseBlur
from foolart.plugins.features import feature_maps, first_convolution
from foolart.plugins.guard import find, modes_kept

Array = np.ndarray[Any, np.dtype[Any]]


class InputBlur(FilterPreprocessor):
    """Blur images before the network sees them: BlurNet's baseline.

    | Paper link: https://arxiv.org/abs/1908.02256 (table 1)

    | Limitations: a blur is differentiable: an attack that knows it is hardly hindered.

    Parameters: those of :class:`foolart.plugins.blurnet.Blur`, and by name those of
    :class:`~foolart.adapters.art.preprocessors.TorchPreprocessor`.
    """

    plugin = Blur


class BlurNetTransformer(Transformer):
    """Insert a depthwise blur after a layer of a network: a new, protected classifier.

    The classifier is left as it is; call the transformer to get the new one, which has a deep copy
    of its network and an optimizer of its own.

    | Paper link: https://arxiv.org/abs/1908.02256

    | Limitations: it stops some stickers that were made without it. It is linear and
      differentiable, so that attacks simply take it into account; it costs confidence.

    Args:
        classifier: A PyTorch classifier.
        layer: A name of ``classifier.model.named_modules()`` whose output are feature maps; the
            first convolution by default, whose maps are blurred before the activation.
        size: Height and width of the kernel, odd: 3, 5 or 7 in the paper.
        kernel: ``"box"`` or ``"gaussian"``.
        padding: ``"zeros"`` or ``"reflect"``.
        trainable: Whether the kernels are parameters, at first boxes, to be trained by
            :class:`BlurNetTrainer` under the L_inf penalty.

    Raises:
        ValueError: If the classifier is not PyTorch's, its network has no convolution, the layer
            does not exist or returns no feature maps, or another argument is refused.
    """

    params: ClassVar[list[str]] = ["layer", "size", "kernel", "padding", "trainable"]

    def __init__(
        self,
        classifier: Any,
        layer: str | None = None,
        *,
        size: int = 5,
        kernel: str = "box",
        padding: str = "zeros",
        trainable: bool = False,
    ) -> None:
        super().__init__(classifier=classifier)
        self.layer, self.size, self.kernel = layer, size, kernel
        self.padding, self.trainable = padding, trainable
        self._is_fitted = True
        self._check_params()

    def fit(self, x: Array, y: Array | None = None, **kwargs: Any) -> None:
        """Do nothing: a blur needs no data."""

    def __call__(self, x: Array | None = None, transformed_classifier: Any = None) -> Any:
        """The protected classifier.

        Args:
            x: Not used.
            transformed_classifier: Another classifier to protect, of the same kind.
        """
        classifier = self.classifier if transformed_classifier is None else transformed_classifier
        layer = first_convolution(classifier.model) if self.layer is None else self.layer
        maps = _maps(classifier, layer)
        blur = (
            DepthwiseBlur(maps.shape[1], int(self.size), self.padding)
            if self.trainable
            else Blur(int(self.size), self.kernel, self.padding)
        )
        blur(maps)
        return protected(classifier, {layer: blur.to(maps)})

    def _check_params(self) -> None:
        check_pytorch(self.classifier)
        if self.trainable and self.kernel != "box":
            raise ValueError(f"expected kernel to be box for a trainable blur, got {self.kernel!r}")
        self()


class BlurNetTrainer(Trainer):
    """Train a network to be a low-pass filter itself: cross-entropy plus alpha times a penalty.

    ``"tv"``: the total variation of the feature maps, ``alpha`` 1e-4 or 1e-5 in the paper, with no
    filter layer. ``"linf"``: the largest weights of a trainable depthwise layer, which
    :class:`BlurNetTransformer` inserts with ``trainable=True``, ``alpha`` 1e-5 (3x3) or 0.1 (5x5
    and 7x7). ``"tikhonov"``, ours: the energy of the maps' high frequencies.

    | Paper link: https://arxiv.org/abs/1908.02256

    | Limitations: no guarantee against any attack; evaluate it by attacks that know it, such as RP2
      with low frequencies or with the penalty in its own loss.

    Args:
        classifier: A PyTorch classifier with an optimizer (Adam in the paper), trained in place.
        penalty: ``"tv"``, ``"linf"`` or ``"tikhonov"``.
        alpha: Its weight.
        layer: The layer under the penalty; by default the first convolution, or for ``"linf"`` the
            only trainable blur.
        learning_rate: Set in the optimizer; the largest one of ``"one-cycle"``.
        schedule: ``"constant"`` or ``"one-cycle"``.
        seed: Of the order of images and of dropout.
        verbose: Show a progress bar.

    Raises:
        ValueError: If an argument is refused, or there is no such layer.
    """

    def __init__(
        self,
        classifier: Any,
        penalty: str = "tv",
        alpha: float = 1e-4,
        layer: str | None = None,
        *,
        learning_rate: float = 1e-3,
        schedule: str = "constant",
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        check_pytorch(classifier)
        super().__init__(classifier)
        if classifier.optimizer is None:
            raise ValueError("expected a classifier with an optimizer, got one without")
        self.penalty, self.alpha, self.verbose = penalty, float(alpha), verbose
        self.learning_rate, self.schedule, self.seed = float(learning_rate), schedule, int(seed)
        self.layer = _penalised(classifier.model, penalty) if layer is None else layer
        find(classifier.model, self.layer)
        self._training(1, 1)

    def fit(
        self,
        x: Array,
        y: Array,
        batch_size: int = 128,
        nb_epochs: int = 20,
        checkpoint: str | Path | None = None,
        progress: Callable[[int, int, Epoch | None], None] | None = None,
        **kwargs: Any,
    ) -> list[Epoch]:
        """Train.

        Args:
            x: Images ``(N, C, H, W)`` within the classifier's clip values, left unchanged.
            y: Labels, ``(N,)`` or one-hot ``(N, C)``.
            batch_size: Images of a step.
            nb_epochs: Passes over the images.
            checkpoint: A ``.safetensors`` file, written after every epoch; if it is there, training
                goes on where it stopped.
            progress: Called as ``progress(done, total, last_epoch)`` after every batch.
            kwargs: None are known.

        Returns:
            What each epoch came to.

        Raises:
            TypeError: If another keyword argument is given.
            ValueError: If images and labels do not fit, or the checkpoint is of other training.
        """
        if kwargs:
            raise TypeError(f"fit got an unexpected keyword argument {next(iter(kwargs))!r}")
        classifier: Any = self.classifier
        one_hot = check_and_transform_label_format(np.asarray(y), nb_classes=classifier.nb_classes)
        images = np.asarray(x, dtype=np.float32)
        # ART's own fit does the same: defences that are applied in training, and standardisation.
        images, one_hot = classifier._apply_preprocessing(images, one_hot, fit=True)
        total = nb_epochs * math.ceil(len(images) / batch_size)
        with tqdm(total=total, desc="BlurNet", leave=False, disable=not self.verbose) as bar:

            def report(done: int, steps: int, last: Epoch | None) -> None:
                bar.update(done - bar.n)
                if last is not None:
                    bar.set_postfix(epoch=last.number, loss=last.loss, accuracy=last.accuracy)
                if progress is not None:
                    progress(done, steps, last)

            return fit(
                classifier.model,
                torch.from_numpy(np.array(images)),
                torch.from_numpy(np.argmax(one_hot, axis=1)),
                self._training(nb_epochs, batch_size),
                optimizer=classifier.optimizer,
                checkpoint=None if checkpoint is None else Path(checkpoint),
                progress=report,
            )

    def _training(self, epochs: int, batch_size: int) -> Training:
        return Training(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            penalty=self.penalty,
            layer=self.layer,
            alpha=self.alpha,
            seed=self.seed,
        )


def _penalised(network: torch.nn.Module, penalty: str) -> str:
    if penalty != "linf":
        return first_convolution(network)
    blurs = [name for name, m in network.named_modules() if isinstance(m, DepthwiseBlur)]
    if len(blurs) != 1:
        raise ValueError(
            f"expected one trainable blur for the linf penalty, found {len(blurs)}: insert it by "
            "BlurNetTransformer(classifier, trainable=True)(), or name the layer"
        )
    return str(blurs[0])


def _maps(classifier: Any, layer: str) -> torch.Tensor:
    """The feature maps of a layer for one blank image."""
    network = classifier.model
    first = next(network.parameters())
    with torch.no_grad(), modes_kept(network):
        return feature_maps(network.eval(), layer, first.new_zeros(1, *classifier.input_shape))
