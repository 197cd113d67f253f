"""Any ART attack as a Foolbox attack: the other direction of the bridge."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any, TypeVar

import eagerpy as ep
import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from foolbox.attacks.base import AttackWithDistance
from foolbox.distances import Distance, LpDistance
from foolbox.models import Model

from foolart.adapters.foolbox.problem import Problem, check_call

T = TypeVar("T")

# The norms of ART's attacks that do not have one as a parameter.
_NORMS = {
    "BasicIterativeMethod": math.inf,
    "CarliniL0Method": 0,
    "CarliniL2Method": 2,
    "CarliniLInfMethod": math.inf,
    "DeepFool": 2,
    "NewtonFool": 2,
    "SaliencyMapMethod": 0,
}


class ArtAttack(AttackWithDistance):
    """Run an ART attack on a Foolbox PyTorch model.

    The attack sees the Foolbox model as an ART ``PyTorchClassifier`` with the model's bounds as
    clip values: every query goes through the Foolbox model.

    An attack with a parameter ``eps`` runs once for each of ``epsilons``, which replace it; its
    ``eps_step``, if not given, keeps the ratio to ``eps`` that ART's defaults have. Any other runs
    once. ``batch_size``, if not given, is the whole batch, where ART's default is often 1.

    Args:
        attack: The class of the attack, such as :class:`art.attacks.evasion.CarliniL2Method`.
        distance: The distance of the attack, by default that of its ``norm``.
        params: Keyword arguments of the class, but the classifier and ``targeted``.

    Raises:
        ValueError: If ``attack`` is no ART attack, takes no such parameter, or has no norm that
            is known.
    """

    def __init__(
        self, attack: type[EvasionAttack], *, distance: Distance | None = None, **params: Any
    ):
        if not (inspect.isclass(attack) and issubclass(attack, EvasionAttack)):
            raise ValueError(
                "expected attack to be a class of ART attacks, such as "
                f"art.attacks.evasion.CarliniL2Method, got {attack!r}"
            )
        accepted = _defaults(attack)
        for name in params:
            if name not in accepted or name in ("classifier", "estimator", "targeted"):
                raise ValueError(
                    f"expected parameters of {attack.__name__} ({', '.join(accepted)}), got {name}"
                )
        self.attack: Any = attack
        self.params = params
        self._distance = distance or _distance(attack, params)

    @property
    def distance(self) -> Distance:
        """The distance that the attack keeps small."""
        return self._distance

    def __call__(  # type: ignore[no-untyped-def, override, unused-ignore]
        self, model: Model, inputs: T, criterion: Any, *, epsilons: Any, **kwargs: Any
    ):
        """Run the attack; see :class:`foolbox.attacks.Attack`.

        Raises:
            ValueError: If the arguments do not fit, the inputs are no PyTorch tensors, or the
                criterion is targeted and the attack cannot be.
        """
        if kwargs:
            raise TypeError(f"attack got an unexpected keyword argument {next(iter(kwargs))!r}")
        check_call(model, inputs, criterion, epsilons)
        x, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, x, criterion)
        if not isinstance(x, ep.PyTorchTensor):
            raise ValueError(f"expected inputs as PyTorch tensors, got {type(x).__name__}")
        was_iterable = isinstance(epsilons, Iterable)
        sizes = list(epsilons) if was_iterable else [epsilons]
        classifier, c = _classifier(model, x)
        adversarials: list[ep.Tensor] = []
        for epsilon in sizes:
            if not adversarials or "eps" in _defaults(self.attack):
                adversarial = self._generate(problem, classifier, c, epsilon)
            adversarials.append(adversarial)
        clipped = [
            a if epsilon is None else self.distance.clip_perturbation(x, a, epsilon)
            for a, epsilon in zip(adversarials, sizes, strict=True)
        ]
        success = ep.stack([problem.criterion(a, model(a)) for a in clipped])
        raw, clipped = map(restore_type, adversarials), list(map(restore_type, clipped))
        if was_iterable:
            return list(raw), clipped, restore_type(success)
        return next(raw), clipped[0], restore_type(success.squeeze(axis=0))

    def _generate(
        self, problem: Problem, classifier: PyTorchClassifier, c: int, epsilon: float | None
    ) -> ep.Tensor:
        defaults = _defaults(self.attack)
        own = {"batch_size": len(problem.x), "verbose": False, "targeted": problem.targeted}
        params: dict[str, Any] = {k: v for k, v in own.items() if k in defaults} | self.params
        if problem.targeted and "targeted" not in defaults:
            raise ValueError(f"expected an untargeted criterion for {self.attack.__name__}")
        if epsilon is not None and "eps" in defaults:
            params["eps"] = float(epsilon)
            if "eps_step" in defaults and epsilon > 0:
                ratio = defaults["eps_step"] / defaults["eps"]
                params.setdefault("eps_step", float(epsilon * ratio))
        x = problem.x.numpy()
        one_hot = np.eye(c, dtype=np.float32)[problem.classes.numpy()]
        result = self.attack(classifier, **params).generate(x=x.copy(), y=one_hot)
        adversarial = ep.from_numpy(problem.x, np.asarray(result, dtype=x.dtype))
        return adversarial.clip(*problem.model.bounds)


class _Network(torch.nn.Module):
    def __init__(self, model: Model):
        super().__init__()
        self.foolbox_model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.foolbox_model(x)
        return outputs


def _classifier(model: Model, x: ep.Tensor) -> tuple[PyTorchClassifier, int]:
    c = model(x[:1]).shape[-1]
    device = x.raw.device
    classifier = PyTorchClassifier(
        _Network(model),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=c,
        channels_first=getattr(model, "data_format", "channels_first") == "channels_first",
        clip_values=tuple(map(float, model.bounds)),
        device_type="cpu" if device.type == "cpu" else "gpu",
    )
    return classifier, c


def _distance(attack: type[EvasionAttack], params: dict[str, Any]) -> Distance:
    norm = params.get("norm", _defaults(attack).get("norm", _NORMS.get(attack.__name__)))
    if norm is None:
        raise ValueError(
            f"expected a distance for {attack.__name__}, whose norm is unknown: pass for instance "
            "distance=foolbox.distances.l2"
        )
    return LpDistance(math.inf if norm == "inf" else norm)


def _defaults(attack: type[EvasionAttack]) -> dict[str, Any]:
    parameters = list(inspect.signature(attack.__init__).parameters.values())
    return {p.name: p.default for p in parameters[2:]}
