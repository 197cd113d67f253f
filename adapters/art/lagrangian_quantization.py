"""The Lagrangian quantiser around any attack of either toolkit, as an ART attack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import eagerpy as ep
import numpy as np
from art.attacks.attack import EvasionAttack
from foolbox.attacks.base import Attack, AttackWithDistance
from foolbox.distances import Distance
from foolbox.models import Model

from foolart.adapters.art.distances import distance_of
from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.masked import Masked
from foolart.adapters.foolbox.problem import Problem
from foolart.adapters.foolbox.quantized import Quantized


class LagrangianQuantization(NativeAttack):
    """Digital images from any attack: its perturbations, moved to the grid so that they still fool.

    | Paper link: https://hal.science/hal-02553006

    | Limitations: the classifier must have gradients, even where the wrapped attack needs none. An
      ART attack runs as it is, with its own batches, on the same classifier; with a mask, it must
      be one that takes masks.

    Parameters: ``attack``, an ART attack on the same classifier or a Foolbox attack; ``eps``, the
    largest distance after quantisation, by default without limit (Foolbox attacks of the
    fixed-epsilon kind need one); the others are those of
    :class:`foolart.adapters.foolbox.Quantized`, and ``targeted``, ``batch_size``,
    ``summary_writer`` and ``verbose``.
    """

    foolbox_class = Quantized
    eps = None

    def foolbox_attack(self) -> Attack:
        """The quantiser around the Foolbox attack, or around the ART attack as one."""
        params = self.foolbox_params()
        if isinstance(self.attack, EvasionAttack):
            params["attack"] = _Bound(self.attack)
        return self.foolbox_class(**params)

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.attack, EvasionAttack):
            return
        if self.attack.estimator is not self.estimator:
            raise ValueError("expected the attack to be one on the same classifier")
        if bool(self.attack.targeted) != self.targeted:
            raise ValueError(
                f"expected an attack with targeted={self.targeted}, got {self.attack.targeted}"
            )


class _Bound(AttackWithDistance):
    """An ART attack with its classifier as a Foolbox attack on a model of the same classifier."""

    def __init__(self, attack: EvasionAttack):
        self.attack = attack

    @property
    def distance(self) -> Distance:
        return distance_of(type(self.attack), getattr(self.attack, "norm", None))

    def __call__(  # type: ignore[no-untyped-def, override, unused-ignore]
        self, model: Model, inputs: ep.Tensor, criterion: Any, *, epsilons: Iterable[float | None]
    ):
        problem = Problem.of(model, inputs, criterion)
        x = problem.x
        one_hot = np.eye(self.attack.estimator.nb_classes)[problem.classes.numpy()]
        mask = {"mask": model.mask.numpy()} if isinstance(model, Masked) else {}
        images = self.attack.generate(x.numpy().copy(), one_hot.astype(np.float32), **mask)
        raw = ep.from_numpy(x, np.asarray(images, np.float32)).clip(*model.bounds)
        clipped = [
            raw if epsilon is None else self.distance.clip_perturbation(x, raw, epsilon)
            for epsilon in epsilons
        ]
        success = ep.stack([problem.criterion(images, model(images)) for images in clipped])
        return [raw] * len(clipped), clipped, success
