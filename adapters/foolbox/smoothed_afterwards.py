"""Smoothing as mere post-processing: the ablation that the papers argue against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import eagerpy as ep
from foolbox.attacks.base import AttackWithDistance, T
from foolbox.distances import l2
from foolbox.models import Model

from foolart.plugins.smoothing import check_smoothing

from .best import Best
from .guided import check_channel_axis, guided_smoothing
from .problem import CheckedMinimizationAttack, Problem, criterion_of


class SmoothedAfterwards(CheckedMinimizationAttack):
    """Any attack, its perturbations smoothed when it is done. [#Zhang20]_

    With r the perturbation that the attack found, the images x + f s^_alpha(r), clipped, are
    judged for every factor f, and the closest that fools the model is returned, the input itself
    where none does. It shows what smoothing costs where the attack does not know of it: compare
    ``SmoothCarliniWagnerAttack``, whose every iterate is smooth.

    Args:
        attack: A Foolbox attack, run without a bound on the perturbation: a minimization attack or
            a ``MinimalEpsilon``.
        factors: What to multiply the smoothed perturbation by: 1 for plain post-processing, larger
            ones to make good for what smoothing took away. One forward pass each.
        alpha: Strength of the smoothing, in [0, 1).
        kernel: ``"laplacian"`` or ``"gaussian"``, the feature kernel of the pixel graph.
        bandwidth: Width of the kernel, for pixels in [0, 1].
        per_channel: Whether every channel has a graph of its own.
        channel_axis: Axis of the channels; None asks the model for its ``data_format``.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels or model do not fit.

    References:
        .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Smooth
            adversarial examples", EURASIP Journal on Information Security 2020(15), section 5.3.2,
            https://doi.org/10.1186/s13635-020-00112-z
    """

    distance = l2

    def __init__(
        self,
        attack: AttackWithDistance,
        *,
        factors: Sequence[float] = (1.0,),
        alpha: float = 0.997,
        kernel: str = "laplacian",
        bandwidth: float = 0.1,
        per_channel: bool = False,
        channel_axis: int | None = None,
    ):
        if not isinstance(attack, AttackWithDistance):
            raise ValueError(f"expected attack to be a Foolbox attack, got {attack!r}")
        if not len(factors) or not all(0 < factor < math.inf for factor in factors):
            raise ValueError(f"expected factors to be positive and finite, got {factors!r}")
        check_smoothing(alpha, kernel, bandwidth)
        check_channel_axis(channel_axis)
        self.attack = attack
        self.factors = factors
        self.alpha = alpha
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.per_channel = per_channel
        self.channel_axis = channel_axis

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """Run the attack, then smooth; keyword arguments go to the attack."""
        originals, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, originals, criterion)
        del inputs, criterion, early_stop

        criterion = criterion_of(problem.classes, problem.targeted)
        _, found, _ = self.attack(model, originals, criterion, epsilons=None, **kwargs)
        box = problem.box(None)
        x = box.encode(originals)
        smoothing = guided_smoothing(
            problem,
            x,
            self.channel_axis,
            alpha=self.alpha,
            kernel=self.kernel,
            bandwidth=self.bandwidth,
            per_channel=self.per_channel,
        )
        r = smoothing(box.encode(found) - x)
        best = Best.none(x).where_closer(ep.zeros_like(x), problem.judge(box, x)[1])
        for factor in self.factors:
            moved = (x + factor * r).clip(0, 1) - x
            best = best.where_closer(moved, problem.judge(box, x + moved)[1])
        return restore_type(best.images(problem, box, x))
