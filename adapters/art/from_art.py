"""Any ART attack as a Foolbox attack: the other direction of the bridge."""

from __future__ import annotations

import inspect
from typing import Any

import eagerpy as ep
import numpy as np
import torch
from art.attacks import evasion
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from foolbox.attacks.base import T, raise_if_kwargs
from foolbox.distances import Distance
from foolbox.models import Model

from foolart.adapters.art.distances import distance_of
from foolart.adapters.foolbox.problem import (
    CheckedFixedEpsilonAttack,
    CheckedMinimizationAttack,
    Problem,
)


def art_attack(
    attack: str | type[EvasionAttack], *, distance: Distance | None = None, **params: Any
) -> ArtMinimizationAttack | ArtFixedEpsilonAttack:
    """Make a Foolbox attack of an ART attack, for Foolbox models of PyTorch networks.

    The attack sees the Foolbox model as an ART ``PyTorchClassifier`` with the model's bounds as
    clip values: every query goes through the Foolbox model.

    Args:
        attack: The class of the attack, or its name in :mod:`art.attacks.evasion`, such as
            ``"CarliniL2Method"``.
        distance: The distance of the attack, by default that of its ``norm``.
        params: Keyword arguments of the class, but the classifier and ``targeted``. If not given,
            ``batch_size`` is the whole batch, where ART's default is often 1.

    Returns:
        A fixed-epsilon attack if ART's has a parameter ``eps``, which Foolbox's ``epsilons``
        replace; its ``eps_step``, if not given, keeps the ratio to ``eps`` that ART's defaults
        have. A minimization attack otherwise.

    Raises:
        ValueError: If ``attack`` is no ART attack, takes no such parameter, or has no norm that
            is known.
    """
    if isinstance(attack, str):
        attack = getattr(evasion, attack, attack)
    if not (inspect.isclass(attack) and issubclass(attack, EvasionAttack)):
        raise ValueError(
            "expected attack to be a class of ART attacks, such as "
            f"art.attacks.evasion.CarliniL2Method, or its name, got {attack!r}"
        )
    defaults = _defaults(attack)
    accepted = [k for k in defaults if k not in ("classifier", "estimator", "targeted", "eps")]
    unknown = set(params).difference(accepted)
    if unknown:
        raise ValueError(
            f"expected parameters of {attack.__name__} ({', '.join(accepted)}), got "
            f"{sorted(unknown)[0]}"
        )
    if distance is None:
        distance = distance_of(attack, params.get("norm", defaults.get("norm")))
    kind = ArtFixedEpsilonAttack if "eps" in defaults else ArtMinimizationAttack
    return kind(attack, distance, params)


class ArtMinimizationAttack(CheckedMinimizationAttack):
    """An ART attack that looks for small perturbations; see :func:`art_attack`."""

    def __init__(self, attack: type[EvasionAttack], distance: Distance, params: dict[str, Any]):
        self.attack = attack
        self._distance = distance
        self.params = params

    @property
    def distance(self) -> Distance:
        """The distance that the attack keeps small."""
        return self._distance

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """Run the attack; see :class:`foolbox.attacks.base.MinimizationAttack`."""
        raise_if_kwargs(kwargs)
        return _run(self.attack, self.params, model, inputs, criterion)


class ArtFixedEpsilonAttack(CheckedFixedEpsilonAttack):
    """An ART attack with a limit on the perturbation; see :func:`art_attack`."""

    def __init__(self, attack: type[EvasionAttack], distance: Distance, params: dict[str, Any]):
        self.attack = attack
        self._distance = distance
        self.params = params

    @property
    def distance(self) -> Distance:
        """The distance that the attack limits."""
        return self._distance

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Run the attack; see :class:`foolbox.attacks.base.FixedEpsilonAttack`."""
        raise_if_kwargs(kwargs)
        if epsilon == 0:  # refused by ART
            return inputs
        defaults = _defaults(self.attack)
        params = {"eps": float(epsilon), **self.params}
        if "eps_step" in defaults:
            params.setdefault("eps_step", epsilon * defaults["eps_step"] / defaults["eps"])
        return _run(self.attack, params, model, inputs, criterion)


def _run(
    attack: type[EvasionAttack], params: dict[str, Any], model: Model, inputs: T, criterion: Any
) -> T:
    x, restore_type = ep.astensor_(inputs)
    problem = Problem.of(model, x, criterion)
    if not isinstance(x, ep.PyTorchTensor):
        raise ValueError(f"expected inputs as PyTorch tensors, got {type(x).__name__}")
    defaults = _defaults(attack)
    if problem.targeted and "targeted" not in defaults:
        raise ValueError(f"expected an untargeted criterion for {attack.__name__}")
    own = {"batch_size": len(x), "verbose": False, "targeted": problem.targeted}
    own = {name: value for name, value in own.items() if name in defaults}
    classifier = _classifier(model, x)
    one_hot = np.eye(classifier.nb_classes, dtype=np.float32)[problem.classes.numpy()]
    made: Any = attack(classifier, **{**own, **params})
    # A copy: on the CPU the array shares memory with the inputs.
    images = made.generate(x=x.numpy().copy(), y=one_hot)
    result = ep.from_numpy(x, np.asarray(images, dtype=x.numpy().dtype))
    return restore_type(result.clip(*model.bounds))


class _Network(torch.nn.Module):
    def __init__(self, model: Model):
        super().__init__()
        self.foolbox_model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.foolbox_model(x)
        return outputs


def _classifier(model: Model, x: ep.Tensor) -> PyTorchClassifier:
    return PyTorchClassifier(
        _Network(model),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=model(x[:1]).shape[-1],
        channels_first=getattr(model, "data_format", "channels_first") == "channels_first",
        clip_values=tuple(map(float, model.bounds)),
        device_type="cpu" if x.raw.device.type == "cpu" else "gpu",
    )


def _defaults(attack: type[EvasionAttack]) -> dict[str, Any]:
    parameters = list(inspect.signature(attack.__init__).parameters.values())[1:]
    return {p.name: p.default for p in parameters}
