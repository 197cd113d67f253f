"""Minimum-norm attacks that are born on the levels of digital images."""

from __future__ import annotations

from typing import Any, TypeVar

import eagerpy as ep
import numpy as np
from foolbox.attacks.base import raise_if_kwargs
from foolbox.distances import l2, linf
from foolbox.models import Model

from foolart.plugins.box import Box, check_levels, rint
from foolart.plugins.gradients import Score, is_class, margin, value_and_gradient
from foolart.plugins.integer import Aim, Bracket, Lattice, LinfLattice

from .best import Best
from .masked import Masked
from .problem import CheckedMinimizationAttack, Problem
from .stumbles import is_tensor
from .weighting import Weights, check_weights, weights_of

T = TypeVar("T")


class IntegerMinimumNormAttack(CheckedMinimizationAttack):
    """The closest adversarial among 8-bit images, in L2, by rounding a scaled gradient.

    Under a linear model the shortest integer perturbation is ``round(c h)``, clipped to the box,
    with h the negative gradient of the margin and one number c an image. So instead of rounding
    small continuous steps, this attack keeps an average h of the gradients, and finds c in closed
    form such that the newest gradient predicts success. Its last forwards bisect c with h fixed.
    Every image that the model sees is a digital one, and the closest adversarial so far is kept.

    The class to reach is committed to at the start: among the ``candidates`` with the largest
    scores, the one that the linear model at the original reaches at the smallest distance. On
    inputs of up to 32 elements that first perturbation is exactly the optimum of the linear model.
    The attack is this package's own; :mod:`foolart.plugins.integer` has its proof. That adversarial
    images have to be digital ones is from [#Bon20]_.

    An input that is misclassified already, or for which nothing was found (as where the
    gradient vanishes), comes back untouched.

    Args:
        steps: Number of gradients; those for the choice of the class are among them.
        forwards: Number of forwards after them.
        candidates: Number of classes to choose from, one gradient each; by default a sixth of the
            steps, from 1 to 8. A targeted attack has no choice.
        levels: Number of levels between the bounds, ends included (256 for 8 bits); the originals
            lie on them.
        weights: Weights of the elements in the norm that is minimized, sqrt(sum of weights *
            difference^2): ``None`` for L2; ``"visibility"`` spares flat areas, where a change of
            +-1 shows (see :func:`~foolart.plugins.visibility.noise_visibility`); or a function from
            originals in [0, 1], ``(N, ...)``, to positive weights, both eagerpy tensors of that
            shape. Distances and epsilons remain Foolbox's.

    Calls take one argument beside Foolbox's: ``mask``, a tensor that broadcasts to the inputs.
    Elements where it is 0 or false do not change.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels, mask, weights or
            model do not fit.

    References:
        .. [#Bon20] Benoît Bonnet, Teddy Furon, Patrick Bas, "What if Adversarial Samples were
            Digital Images?", IH&MMSec 2020, https://hal.science/hal-02553006
    """

    distance = l2
    _lattice: type[Lattice] = Lattice

    def __init__(
        self,
        *,
        steps: int = 20,
        forwards: int = 8,
        candidates: int | None = None,
        levels: int = 256,
        weights: str | Weights | None = None,
    ):
        if steps < 1:
            raise ValueError(f"expected steps >= 1, got {steps}")
        if forwards < 0:
            raise ValueError(f"expected forwards >= 0, got {forwards}")
        if candidates is not None and not 1 <= candidates <= steps:
            raise ValueError(f"expected candidates from 1 to steps = {steps}, got {candidates}")
        if levels is None:
            raise ValueError(
                "expected levels to be an integer from 2 to 65536, got None: this attack is made "
                "for digital images; use BoundaryProjectionAttack(levels=None) for other inputs"
            )
        check_levels(levels)
        check_weights(weights)
        self.steps = steps
        self.forwards = forwards
        self.candidates = candidates
        self.levels = levels
        self.weights = weights

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        mask: Any = None,
        **kwargs: Any,
    ) -> T:
        """Run the attack; see :class:`foolbox.attacks.base.MinimizationAttack` and above."""
        raise_if_kwargs(kwargs)
        originals, restore_type = ep.astensor_(inputs)
        masked = None
        if mask is not None:
            model = masked = Masked(model, originals, _changeable(originals, mask))
        problem = Problem.of(model, originals, criterion)
        del inputs, criterion, early_stop, kwargs

        box = problem.box(self.levels)
        x = rint(box.encode(originals))
        weights = weights_of(self.weights, problem, x / box.top)
        lattice = self._lattice.of(x, box.top, weights)

        score = _towards(problem, box)
        aim, rival, best, spent = self._choose(problem, score, x, lattice)
        for k in range(self.steps - spent):
            (loss, adversarial, lead, _), g = value_and_gradient(score, x + aim.D, *rival)
            best = best.where_closer(aim.D, adversarial, lattice.length(aim.D))
            aim = aim.corrected(-g, ep.where(adversarial, lead, loss), k, self.steps, best.found)

        bracket = Bracket.unknown(aim.c)
        for _ in range(self.forwards):
            _, adversarial = problem.judge(box, x + aim.D)
            best = best.where_closer(aim.D, adversarial, lattice.length(aim.D))
            bracket, c = bracket.narrowed(aim.c, adversarial)
            aim = aim.at(c)

        images = best.images(problem, box, x)
        if masked is not None:
            images = masked.compose(images)
        result: T = restore_type(images)
        return result

    def _choose(
        self, problem: Problem, score: Score, x: ep.Tensor, lattice: Lattice
    ) -> tuple[Aim, tuple[ep.Tensor, ...], Best, int]:
        # The first aim, at the class that is nearest in the linear model at the originals; that
        # class, or nothing if targeted; which originals are adversarial; the number of gradients.
        (lead, adversarial, _, outputs), g = value_and_gradient(score, x)
        best = Best.none(x).where_closer(ep.zeros_like(x), adversarial)
        aim = Aim.first(lattice, -g, lead)
        if problem.targeted:
            return aim, (), best, 1
        candidates = self.candidates or max(1, min(8, self.steps // 6))
        candidates = min(candidates, outputs.shape[-1] - 1)
        own = is_class(outputs, problem.classes)
        others = ep.where(own, ep.full_like(outputs, -ep.inf), outputs)
        rivals = (-others).argsort(axis=-1)[:, :candidates]
        rival, cost = rivals[:, 0], aim.cost(-g, lead)
        for j in range(1, candidates):
            (loss, *_), g = value_and_gradient(score, x, rivals[:, j])
            another = Aim.first(lattice, -g, loss)
            closer = another.cost(-g, loss) < cost
            cost = ep.where(closer, another.cost(-g, loss), cost)
            aim = another.where(closer, aim)
            rival = ep.where(closer, rivals[:, j], rival)
        return aim, (rival,), best, candidates


class LinfIntegerMinimumNormAttack(IntegerMinimumNormAttack):
    """The closest adversarial among 8-bit images, in L_inf, by whole levels along a sign.

    As :class:`IntegerMinimumNormAttack`, with c levels along the sign of the averaged gradient,
    which is the optimum under a linear model. Its source is the same.

    Args:
        steps: Number of gradients, those for the choice of the class among them.
        forwards: Number of forwards after them.
        candidates: Number of classes to choose from; by default a sixth of the steps, from 1 to 8.
        levels: Number of levels between the bounds, ends included (256 for 8 bits).
        weights: Weights of the elements in the norm that is minimized, max(weights *
            abs(difference)): ``None``, ``"visibility"`` or a function, as there.

    Calls take a ``mask``, too.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels, mask, weights or
            model do not fit.

    References:
        .. [#Bon20] Benoît Bonnet, Teddy Furon, Patrick Bas, "What if Adversarial Samples were
            Digital Images?", IH&MMSec 2020, https://hal.science/hal-02553006
    """

    distance = linf
    _lattice = LinfLattice


def _towards(problem: Problem, box: Box) -> Score:
    # The lead over one rival class, or over the nearest of all, or the target's deficit.
    def score(k: ep.Tensor, rival: ep.Tensor | None = None) -> tuple[ep.Tensor, ...]:
        outputs, adversarial = problem.judge(box, k)
        lead = margin(outputs, problem.classes, problem.targeted)
        if rival is None:
            return lead, adversarial, lead, outputs
        own, other = is_class(outputs, problem.classes), is_class(outputs, rival)
        zero = ep.zeros_like(outputs)
        loss = (ep.where(own, outputs, zero) - ep.where(other, outputs, zero)).sum(axis=-1)
        return loss, adversarial, lead, outputs

    return score


def _changeable(x: ep.Tensor, mask: Any) -> ep.Tensor:
    mask = ep.astensor(mask) if is_tensor(mask) else mask
    if type(mask) is not type(x):
        raise ValueError(
            f"expected a mask of the framework of the inputs, {type(x).__name__}, got "
            f"{type(mask).__name__}"
        )
    try:
        fits = np.broadcast_shapes(mask.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"expected a mask that broadcasts to the inputs {tuple(x.shape)}, got shape "
            f"{tuple(mask.shape)}"
        )
    return mask != 0
