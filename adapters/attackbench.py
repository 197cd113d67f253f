"""Our attacks, or any Foolbox attack, in the form that AttackBench runs them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import foolbox
from foolbox.attacks.base import Attack, FixedEpsilonAttack, Repeated

if TYPE_CHECKING:
    import torch


class AttackBenchAttack(Protocol):
    """How AttackBench [#Cina]_ calls an attack."""

    def __call__(
        self,
        *,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor | None = None,
        targeted: bool = False,
    ) -> torch.Tensor:
        """Adversarials ``(N, C, H, W)`` for inputs in [0, 1]."""
        ...


def for_attackbench(attack: Attack) -> AttackBenchAttack:
    """Hand a Foolbox attack to AttackBench's ``run_attack``.

    AttackBench counts an attack's forwards and backwards on the module that it passes, and lets
    outputs become zero when the budget is spent. Its ImageNet inputs are resized as floats, so that
    attacks of ours that keep to the 8-bit grid need ``levels=None`` there.

    Args:
        attack: The attack. One that needs an epsilon is given the smallest that succeeds, for each
            image, as AttackBench asks for.

    Raises:
        ValueError: If it is no Foolbox attack.

    References:
        .. [#Cina] Antonio Emanuele Cinà et al., "AttackBench: Evaluating Gradient-based Attacks for
            Adversarial Examples", https://arxiv.org/abs/2404.19460
    """
    if not isinstance(attack, Attack):
        raise ValueError(f"expected a Foolbox attack, got {type(attack).__name__}")
    single = attack.attack if isinstance(attack, Repeated) else attack
    if isinstance(single, FixedEpsilonAttack):
        from foolart.adapters.foolbox import MinimalEpsilon

        attack = MinimalEpsilon(attack)

    def run(
        *,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor | None = None,
        targeted: bool = False,
    ) -> torch.Tensor:
        if targeted and targets is None:
            raise ValueError("expected targets for a targeted attack, got None")
        criteria = foolbox.criteria
        criterion: Any = (
            criteria.TargetedMisclassification(targets)
            if targeted
            else criteria.Misclassification(labels)
        )
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=inputs.device)
        found: torch.Tensor = attack(wrapped, inputs, criterion, epsilons=None)[1]
        return found

    return run
