"""Adversarial training with any attack as the reference, and the attack "step least likely"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod
from art.defences.trainer import AdversarialTrainer
from art.defences.trainer.trainer import Trainer
from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator, LossGradientsMixin

Array = np.ndarray[Any, np.dtype[Any]]


class AdversarialTraining(Trainer):
    """Train a classifier on the adversarials of a reference attack, made anew as it changes.

    With ``refresh="epoch"``, the thesis's protocol: the network is fixed, adversarials of all
    images are made, one epoch runs on them and the originals, and so on. With ``refresh="batch"``,
    ART's :class:`art.defences.trainer.AdversarialTrainer`: those of half of each batch are made
    before each step.

    Minimum-norm attacks (BP, DDN) suit networks that were trained on clean images before: the
    thesis fine-tunes for 30 epochs.

    | Paper links: https://arxiv.org/abs/1811.09600 (training with DDN),
      https://arxiv.org/abs/1912.02153 (with BP, table 5.5 of the thesis by Hanwei Zhang, 2021),
      https://arxiv.org/abs/1706.06083

    | Limitations: robust to what it was trained on, as long as that was strong enough; evaluate it
      by other attacks, with more steps (paper link: https://arxiv.org/abs/1902.06705).

    Args:
        classifier: The classifier to train, with an optimizer.
        attack: An ART attack on that classifier, untargeted, such as
            :class:`foolart.adapters.art.BoundaryProjection`, :class:`StepLeastLikely` or, for
            Foolbox's DDN, :class:`foolart.adapters.art.FoolboxAttack`.
        refresh: ``"epoch"`` or ``"batch"``.
        clean: Whether the originals are trained on too, as many as adversarials.
        max_distance: Perturbations of a larger L2 norm are scaled down to it, as for DDN in its
            paper (2.4 on MNIST); None leaves them.
        seed: Of the order of images. The global generators, which ART draws from, are put back.

    Raises:
        ValueError: If an argument is of a wrong type or out of range.
    """

    def __init__(
        self,
        classifier: Any,
        attack: EvasionAttack,
        *,
        refresh: str = "epoch",
        clean: bool = True,
        max_distance: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(classifier)
        if not isinstance(attack, EvasionAttack) or attack.estimator is not classifier:
            raise ValueError(
                "expected attack to be an ART attack on the classifier that is trained, got "
                f"{type(attack).__name__}"
            )
        if attack.targeted:
            raise ValueError("expected an untargeted attack, got a targeted one")
        if refresh not in ("epoch", "batch"):
            raise ValueError(f"expected refresh to be epoch or batch, got {refresh!r}")
        if max_distance is not None and not float(max_distance) > 0:
            raise ValueError(f"expected max_distance > 0 or None, got {max_distance!r}")
        self.attack: EvasionAttack = (
            attack if max_distance is None else _Within(attack, max_distance)
        )
        self.refresh, self.clean, self.max_distance = refresh, clean, max_distance
        self.seed = int(seed)

    def fit(
        self,
        x: Array,
        y: Array,
        batch_size: int = 128,
        nb_epochs: int = 30,
        progress: Callable[[int, int], None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train.

        Args:
            x: Images ``(N, ...)``, left unchanged.
            y: Labels, ``(N,)`` or one-hot ``(N, C)``.
            batch_size: Images of a step.
            nb_epochs: Passes over the images.
            progress: Called as ``progress(epoch, epochs)`` after each (``refresh="epoch"`` only).
            kwargs: Passed on to the classifier's ``fit``.
        """
        with _seeded(self.seed):
            if self.refresh == "batch":
                trainer = AdversarialTrainer(
                    self.classifier, self.attack, ratio=0.5 if self.clean else 1.0
                )
                trainer.fit(x, y, batch_size=batch_size, nb_epochs=nb_epochs, **kwargs)
                return
            for epoch in range(nb_epochs):
                images = self.attack.generate(x, y=y)
                labels = y
                if self.clean:
                    images, labels = np.concatenate([x, images]), np.concatenate([y, y])
                self.classifier.fit(images, labels, batch_size=batch_size, nb_epochs=1, **kwargs)
                if progress is not None:
                    progress(epoch + 1, nb_epochs)


class StepLeastLikely(EvasionAttack):
    """One step of the sign of the gradient towards the class that the network finds least likely.

    x' = clip(x - eps sign(grad_x CE(x, argmin_c p_c(x)))): the reference attack of adversarial
    training on ImageNet, as no label leaks into it.

    | Paper link: https://arxiv.org/abs/1611.01236

    | Limitations: networks learn to bend its single step only (gradient masking; paper link:
      https://arxiv.org/abs/1705.07204).

    Args:
        classifier: A classifier with gradients.
        eps: Largest change of a value, in units of the clip values.
        batch_size: Images at a time.

    Raises:
        ValueError: If an argument is out of range.
    """

    attack_params: ClassVar[list[str]] = [*EvasionAttack.attack_params, "eps", "batch_size"]
    _estimator_requirements: ClassVar[tuple[Any, ...]] = (
        BaseEstimator,
        LossGradientsMixin,
        ClassifierMixin,
    )

    def __init__(self, classifier: Any, eps: float = 0.3, batch_size: int = 128) -> None:
        super().__init__(estimator=classifier)
        self.eps, self.batch_size = eps, batch_size
        self._check_params()

    def generate(self, x: Array, y: Array | None = None, **kwargs: Any) -> Array:
        """Make the step for images ``(N, ...)``; labels do not matter.

        Args:
            x: The originals, left unchanged.
            y: Not used.
            kwargs: ``mask``, as of ART's :class:`FastGradientMethod`.

        Returns:
            Images of the shape of x, float32, whether they are adversarial or not.
        """
        x = np.asarray(x, dtype=np.float32)
        scores = self.estimator.predict(x, batch_size=self.batch_size)
        target = np.eye(scores.shape[1], dtype=np.float32)[scores.argmin(axis=1)]
        step = FastGradientMethod(
            self.estimator, eps=float(self.eps), targeted=True, batch_size=self.batch_size
        )
        found: Array = step.generate(x, y=target, **kwargs)
        return found.astype(np.float32, copy=False)

    def _check_params(self) -> None:
        if not 0 <= float(self.eps) < float("inf"):
            raise ValueError(f"expected eps >= 0, got {self.eps!r}")
        if int(self.batch_size) < 1:
            raise ValueError(f"expected batch_size >= 1, got {self.batch_size!r}")


class _Within(EvasionAttack):
    """An attack whose perturbations are scaled down to an L2 norm."""

    _estimator_requirements: ClassVar[tuple[Any, ...]] = ()

    def __init__(self, attack: EvasionAttack, max_distance: float) -> None:
        super().__init__(estimator=attack.estimator)
        self.attack, self.max_distance = attack, float(max_distance)

    def generate(self, x: Array, y: Array | None = None, **kwargs: Any) -> Array:
        change = self.attack.generate(x, y=y, **kwargs) - x
        norms = np.linalg.norm(change.reshape(len(x), -1), axis=1)
        share = np.minimum(1, self.max_distance / np.maximum(norms, 1e-12))
        found: Array = (x + change * share.reshape(-1, *[1] * (x.ndim - 1))).astype(np.float32)
        return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Global generators that start from a seed, and are put back."""
    state = np.random.get_state()
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        np.random.set_state(state)
