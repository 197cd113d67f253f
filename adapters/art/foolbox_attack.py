"""Any Foolbox attack as an ART attack."""

from __future__ import annotations

from typing import Any, ClassVar

from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator
from art.summary_writer import SummaryWriter
from foolbox.attacks import Attack

from foolart.adapters.art.bridged import BridgedAttack


class FoolboxAttack(BridgedAttack):
    """Run any Foolbox attack on any ART classifier, white-box through its preprocessing.

    The result is that of the Foolbox attack on :class:`foolart.adapters.ArtModel`, batch by batch,
    but for failures, which return the original.

    | Paper link: https://arxiv.org/abs/1707.04131 (Foolbox)

    | Limitations: an attack is as good as the gradients that the defence lets pass (see the warning
      of :class:`foolart.adapters.ArtModel`; paper link: https://arxiv.org/abs/1802.00420). Attacks
      that draw random numbers draw them from the framework's global generator.

    Args:
        classifier: A trained classifier. Attacks that follow gradients need one that has them.
        attack: The Foolbox attack, such as ``foolbox.attacks.L2CarliniWagnerAttack()``.
        eps: Largest distance from the originals, in the attack's own distance and in the units of
            the clip values; None for the smallest that a minimization attack finds.
        targeted: Whether ``y`` are classes to be reached instead of left.
        batch_size: Number of images attacked at a time.
        summary_writer: As in all ART attacks; one entry per backward pass.
        verbose: Show a progress bar.

    Raises:
        EstimatorError: If ``classifier`` is no classifier.
        ValueError: If a parameter is of a wrong type or out of range.
    """

    attack_params: ClassVar[list[str]] = [*BridgedAttack.attack_params, "attack", "eps"]
    _estimator_requirements = (BaseEstimator, ClassifierMixin)

    def __init__(
        self,
        classifier: Any,
        attack: Attack,
        eps: float | None = None,
        targeted: bool = False,
        batch_size: int = 32,
        summary_writer: str | bool | SummaryWriter = False,
        verbose: bool = True,
    ):
        super().__init__(
            classifier,
            targeted=targeted,
            batch_size=batch_size,
            summary_writer=summary_writer,
            verbose=verbose,
        )
        self.attack = attack
        self.eps = eps
        self._check_params()

    def foolbox_attack(self) -> Attack:
        """The Foolbox attack."""
        return self.attack

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.attack, Attack):
            raise ValueError(
                f"expected attack to be an instance of foolbox.attacks.Attack, got {self.attack!r}"
            )
