"""Boundary Projection: reach the class boundary fast, then walk along it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import eagerpy as ep
from foolbox.attacks.base import T, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models import Model

from foolart.plugins.boundary import Position, imagenet_length, per_sample_size, schedule
from foolart.plugins.box import check_levels, rint
from foolart.plugins.gradients import value_and_gradient

from .best import Best
from .problem import LOSSES, CheckedMinimizationAttack, Problem


class BoundaryProjectionAttack(CheckedMinimizationAttack):
    """The Boundary Projection (BP) L2 attack, born on the levels of digital images. [#Zhang20]_

    Stage 1 follows the gradient until an input is adversarial; stage 2 walks along the class
    boundary while the distortion shrinks (case OUT), and crosses it again whenever it is lost (case
    IN). One forward and one backward pass a step, and one more forward pass for the last iterate.
    The closest adversarial of each sample is returned, the input itself where none was found.

    Lengths are relative to the input: ``alpha`` is a length on [0, 1] at 224x224x3 and scales with
    the model's bounds and with the square root of the number of elements.

    Deviations from the thesis, each measured better: lengths are those of the rounded iterate in
    case IN, too; the steps of stage 1 are as long as the margin asks for, and double from
    the fourth on, so that small images and robust models are reached in time; and where r
    is parallel to the gradient, case OUT steps back by the known margin instead of standing still.
    :mod:`foolart.plugins.boundary` has the details.

    Args:
        steps: Number of steps, each with one gradient; both stages together.
        alpha: Length of the steps of stage 1, before ``gamma_i``.
        gamma_min: Where the schedule ``gamma_i`` starts, between 0 and 1 exclusive: the factor by
            which an adversarial's distortion shrinks in a step. It grows linearly to nearly 1.
        loss: ``"margin"``, the difference of the logits, or ``"log_probability"``, whose normalised
            gradient is that of the log-odds of the true class.
        levels: Number of levels of a digital image (256 for 8 bits): every iterate and the result
            lie on that grid, and so must the inputs. ``None`` for continuous inputs.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels or model do not fit.

    References:
        .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Walking on the
            edge: fast, low-distortion adversarial examples", https://arxiv.org/abs/1912.02153;
            algorithms 1 and 2 of Hanwei Zhang, "Deep learning in adversarial context", PhD thesis,
            2021, chapter 5.
    """

    distance = l2

    # Equation (5.10)'s beta_min, a length on [0, 1] at 299x299x3, at 224x224x3.
    _SHORTEST = 0.1 * 224 / 299

    def __init__(
        self,
        *,
        steps: int = 20,
        alpha: float = 2.0,
        gamma_min: float = 0.7,
        loss: str = "margin",
        levels: int | None = 256,
    ):
        if steps < 1:
            raise ValueError(f"expected steps >= 1, got {steps}")
        if not alpha > 0:
            raise ValueError(f"expected alpha > 0, got {alpha}")
        if not 0 < gamma_min < 1:
            raise ValueError(f"expected gamma_min between 0 and 1, exclusive, got {gamma_min}")
        if loss not in LOSSES:
            raise ValueError(f"expected loss to be one of {sorted(LOSSES)}, got {loss!r}")
        check_levels(levels)
        self.steps = steps
        self.alpha = alpha
        self.gamma_min = gamma_min
        self.loss = loss
        self.levels = levels

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
        x, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, x, criterion)
        del inputs, criterion, early_stop, kwargs

        box = problem.box(self.levels)
        score = problem.score(box, self.loss)
        start = box.encode(x) if self.levels is None else rint(box.encode(x))
        length = imagenet_length(box, per_sample_size(x))
        guide = self._guide(problem, start / box.top)

        r = image = ep.zeros_like(start)
        best = Best.none(r)
        for i in range(self.steps):
            gamma = schedule(i, self.steps, self.gamma_min)
            (loss, adversarial, *_), g = value_and_gradient(score, start + image)
            best = best.where_closer(image, adversarial)

            d = guide(g)
            y = Position.of(r, g, d)
            first = y.first(self.alpha * gamma * self._growth(i) * length, loss)
            along = y.along(loss, gamma)
            across = y.across(self._SHORTEST * length, gamma)
            step = along.where(adversarial, across.where(best.found, first))
            r = step.take(r, d, box)
            image = box.quantize(start + r) - start
            r = self._carry(r, image)
        best = best.where_closer(image, problem.judge(box, start + image)[1])
        return restore_type(best.images(problem, box, start))

    def _guide(self, problem: Problem, x: ep.Tensor) -> Callable[[ep.Tensor], ep.Tensor]:
        """What makes a direction of a gradient, given the originals in [0, 1]: here, nothing."""
        return lambda gradient: gradient

    def _carry(self, r: ep.Tensor, image: ep.Tensor) -> ep.Tensor:
        """What the next step starts from: here, the perturbation as it was rounded and clipped."""
        return image

    @staticmethod
    def _growth(i: int) -> int:
        return 1 << min(max(0, i - 2), 16)
