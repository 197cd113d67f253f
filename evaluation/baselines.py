"""Foolbox's own attacks where they cannot be used as shipped: subclasses that mend the defect.

Whoever wants to see the defect asks the catalogue for ``foolbox:L2FMNAttack``, say, and gets the
class as shipped, with the flags that the self-check gives it.
"""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import foolbox

from foolart.plugins.gradients import atleast_kd, norm


class CarliniWagner(foolbox.attacks.L2CarliniWagnerAttack):
    """Foolbox's C&W, returning the input where it fails, and without its early abort.

    Foolbox's returns an all-zero image on failure, which a judge may then take for a success. Its
    early abort looks at the loss summed over the batch, so that an image's result depends on the
    others': it is off by default here.

    Args:
        binary_search_steps: Number of steps of the search over the constant.
        steps: Number of optimization steps in each.
        stepsize: Step size of Adam.
        confidence: Margin by which an adversarial must be one.
        initial_const: First value of the constant.
        abort_early: Stop the inner search where the whole batch makes no progress.
    """

    def __init__(
        self,
        *,
        binary_search_steps: int = 9,
        steps: int = 1000,
        stepsize: float = 1e-2,
        confidence: float = 0.0,
        initial_const: float = 1e-3,
        abort_early: bool = False,
    ) -> None:
        super().__init__(
            binary_search_steps=binary_search_steps,
            steps=steps,
            stepsize=stepsize,
            confidence=confidence,
            initial_const=initial_const,
            abort_early=abort_early,
        )

    def run(self, model: Any, inputs: Any, criterion: Any, **kwargs: Any) -> Any:
        """See :class:`foolbox.attacks.L2CarliniWagnerAttack`."""
        return _input_where_zero(inputs, super().run(model, inputs, criterion, **kwargs))


class ElasticNet(foolbox.attacks.EADAttack):
    """Foolbox's EAD, with the same two defects mended as in :class:`CarliniWagner`.

    Args:
        binary_search_steps: Number of steps of the search over the constant.
        steps: Number of optimization steps in each.
        initial_stepsize: First step size of the shrinkage-thresholding steps.
        confidence: Margin by which an adversarial must be one.
        initial_const: First value of the constant.
        regularization: Weight of the L1 norm.
        decision_rule: What the best adversarial is the smallest in: ``"EN"`` or ``"L1"``.
        abort_early: Stop the inner search where the whole batch makes no progress.
    """

    def __init__(
        self,
        *,
        binary_search_steps: int = 9,
        steps: int = 1000,
        initial_stepsize: float = 1e-2,
        confidence: float = 0.0,
        initial_const: float = 1e-3,
        regularization: float = 1e-2,
        decision_rule: str = "EN",
        abort_early: bool = False,
    ) -> None:
        super().__init__(
            binary_search_steps=binary_search_steps,
            steps=steps,
            initial_stepsize=initial_stepsize,
            confidence=confidence,
            initial_const=initial_const,
            regularization=regularization,
            decision_rule=decision_rule,
            abort_early=abort_early,
        )

    def run(self, model: Any, inputs: Any, criterion: Any, **kwargs: Any) -> Any:
        """See :class:`foolbox.attacks.EADAttack`."""
        return _input_where_zero(inputs, super().run(model, inputs, criterion, **kwargs))


if hasattr(foolbox.attacks, "L2FMNAttack"):  # since Foolbox 3.3.2

    class FastMinimumNorm(foolbox.attacks.L2FMNAttack):
        """Foolbox's L2 FMN, with the projection that it forgets.

        Foolbox's divides norms by themselves and so never projects: on ImageNet samples its median
        distance is five times that of the algorithm.

        Args: those of :class:`foolbox.attacks.L2FMNAttack`.
        """

        def project(self, x: ep.Tensor, x0: ep.Tensor, epsilon: ep.Tensor) -> ep.Tensor:
            """The points nearest to ``x`` within ``epsilon`` ``(N,)`` of ``x0``."""
            delta = x - x0
            factor = ep.minimum(1.0, epsilon / ep.maximum(norm(delta), 1e-12))
            return x0 + delta * atleast_kd(factor, x.ndim)


def _input_where_zero(inputs: Any, outputs: Any) -> Any:
    x, restore_type = ep.astensor_(inputs)
    y = ep.astensor(outputs)
    failed = atleast_kd((y == 0).reshape((len(y), -1)).all(axis=-1), y.ndim)
    return restore_type(ep.where(failed, x, y))
