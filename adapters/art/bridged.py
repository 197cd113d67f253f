"""What all attacks have in common that run a Foolbox attack as an ART attack."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import eagerpy as ep
import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator, LossGradientsMixin
from art.summary_writer import SummaryWriter
from art.utils import check_and_transform_label_format
from foolbox.attacks.base import Attack, FixedEpsilonAttack, MinimizationAttack
from foolbox.models import Model
from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

from foolart.adapters.art.bridge import ArtModel
from foolart.adapters.foolbox.masked import Masked
from foolart.adapters.foolbox.problem import check_inputs, criterion_of
from foolart.plugins.gradients import atleast_kd


class BridgedAttack(EvasionAttack):
    """Run a Foolbox attack on an ART classifier, by ART's conventions.

    Subclasses name their parameters in ``attack_params``, set them in ``__init__`` before calling
    ``_check_params``, and build the Foolbox attack from them in :meth:`foolbox_attack`.
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "targeted",
        "batch_size",
        "verbose",
    ]
    _estimator_requirements: ClassVar[tuple[Any, ...]] = (
        BaseEstimator,
        LossGradientsMixin,
        ClassifierMixin,
    )
    eps: float | None = None

    def __init__(
        self,
        classifier: Any,
        *,
        targeted: bool = False,
        batch_size: int = 32,
        summary_writer: str | bool | SummaryWriter = False,
        verbose: bool = True,
    ):
        super().__init__(estimator=classifier, summary_writer=summary_writer)
        self._targeted = targeted
        self.batch_size = batch_size
        self.verbose = verbose

    @abstractmethod
    def foolbox_attack(self) -> Attack:
        """The Foolbox attack with the present parameters.

        Raises:
            ValueError: If a parameter is out of range.
        """

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Generate adversarial examples.

        Args:
            x: The originals ``(N, ...)`` within the classifier's clip values, left unchanged.
            y: Labels, or the target classes if ``targeted``, as indices ``(N,)`` or ``(N, 1)`` or
                one-hot ``(N, C)``. By default what the classifier predicts.
            kwargs: ``mask``: boolean or non-negative floats, broadcastable to ``x``; elements where
                it is 0 stay unchanged.

        Returns:
            Adversarial examples of the shape of ``x``, float32, within the clip values; the
            original where the attack failed.

        Raises:
            TypeError: If another keyword argument is given.
            ValueError: If ``x``, ``y`` or the mask do not fit, or the attack is targeted without
                target classes.
        """
        mask = kwargs.pop("mask", None)
        if kwargs:
            raise TypeError(f"generate got an unexpected keyword argument {next(iter(kwargs))!r}")
        # A copy: on the CPU a tensor shares memory with the array that it is made from.
        originals = np.array(x, dtype=np.float32)
        changeable = _check_mask(mask, originals.shape)
        attack, model = self.foolbox_attack(), ArtModel(self.estimator)
        check_inputs(model, ep.astensor(originals))
        classes = self._classes(y, len(originals))
        result = np.empty_like(originals)
        size = self._rows_at_once(len(originals))
        starts = range(0, len(originals), size)
        with model.inference():
            for start in tqdm(starts, type(self).__name__, leave=False, disable=not self.verbose):
                rows = slice(start, start + size)
                images = model.from_numpy(originals[rows])
                if classes is None:
                    labels = model(images).argmax(axis=-1)
                else:
                    labels = model.from_numpy(classes[rows])
                if self.summary_writer is not None:
                    model.observer = self._observer(start // size, labels.numpy())
                mask_ = None if changeable is None else model.from_numpy(changeable[rows])
                result[rows] = self._attack(attack, model, images, labels, mask_).numpy()
        if self.summary_writer is not None:
            self.summary_writer.reset()
        return result

    def _rows_at_once(self, count: int) -> int:
        """How many of ``count`` images the Foolbox attack gets in one call."""
        return self.batch_size

    def _attack(
        self, attack: Attack, model: Model, x: ep.Tensor, labels: ep.Tensor, mask: ep.Tensor | None
    ) -> ep.Tensor:
        if mask is not None:
            model = Masked(model, x, mask)
        criterion = criterion_of(labels, self.targeted)
        epsilon = None if self.eps is None else float(self.eps)
        _, adversarials, success = attack(model, x, criterion, epsilons=epsilon)
        result = ep.where(atleast_kd(success, x.ndim), adversarials, x)
        if mask is not None:
            result = model.compose(result)
        return result.clip(*model.bounds)

    def _classes(self, y: np.ndarray | None, n: int) -> np.ndarray | None:
        if y is None:
            if self.targeted:
                raise ValueError("expected target classes `y` for a targeted attack, got None")
            return None
        c = self.estimator.nb_classes
        y = np.asarray(y)
        if y.shape not in [(n,), (n, 1), (n, c)]:
            raise ValueError(
                f"expected labels `y` as indices ({n},) or ({n}, 1), or one-hot ({n}, {c}), got "
                f"shape {y.shape}"
            )
        if y.shape == (n, c):
            if not np.all((y == y.max(axis=1, keepdims=True)).sum(axis=1) == 1):
                raise ValueError("expected one-hot labels `y` with one largest entry in every row")
        elif not np.isin(y, np.arange(c)).all():
            raise ValueError(f"expected labels `y` to be integers from 0 to {c - 1}")
        one_hot = check_and_transform_label_format(y, nb_classes=c)
        classes: np.ndarray = one_hot.argmax(axis=1)
        return classes

    def _observer(self, batch_id: int, labels: np.ndarray) -> Any:
        y = np.eye(self.estimator.nb_classes, dtype=np.float32)[labels]
        step = iter(range(2**62))

        def write(x: Any, gradient: Any) -> None:
            self.summary_writer.update(
                batch_id=batch_id,
                global_step=next(step),
                grad=ep.astensor(gradient).numpy(),
                patch=None,
                estimator=self.estimator,
                x=ep.astensor(x).numpy(),
                y=y,
                targeted=self.targeted,
            )

        return write

    def _check_params(self) -> None:
        super()._check_params()
        for name in ("targeted", "verbose"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"expected {name} to be a bool, got {getattr(self, name)!r}")
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"expected batch_size to be a positive integer, got {size!r}")
        eps = self.eps
        number = isinstance(eps, int | float | np.number) and not isinstance(eps, bool)
        if eps is not None and not (number and math.isfinite(eps) and eps >= 0):
            raise ValueError(f"expected eps to be None or a finite number >= 0, got {eps!r}")
        attack = self.foolbox_attack()
        while not isinstance(attack, MinimizationAttack) and hasattr(attack, "attack"):
            attack = attack.attack
        if eps is None and isinstance(attack, FixedEpsilonAttack):
            raise ValueError(f"expected eps for {type(attack).__name__}, got None")


def _check_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype != bool and not np.issubdtype(mask.dtype, np.floating):
        raise ValueError(f"expected a mask of bools or floats, got dtype {mask.dtype}")
    if not (mask >= 0).all():
        raise ValueError("expected a mask without negative values or NaN")
    try:
        return np.array(np.broadcast_to(mask != 0, shape))
    except ValueError as error:
        raise ValueError(
            f"expected a mask that broadcasts to the inputs {shape}, got shape {mask.shape}"
        ) from error
