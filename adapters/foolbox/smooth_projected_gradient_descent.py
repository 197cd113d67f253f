"""Projected gradient descent with smoothed gradients: qPGD2."""

from __future__ import annotations

import math
from typing import Any

import eagerpy as ep
from foolbox.attacks import L2ProjectedGradientDescentAttack
from foolbox.attacks.base import T, raise_if_kwargs
from foolbox.models import Model

from foolart.plugins.gradients import atleast_kd, value_and_gradient
from foolart.plugins.smoothing import check_smoothing

from .guided import check_channel_axis, guided_smoothing
from .problem import CheckedFixedEpsilonAttack, Problem

SMOOTHED = ("gradient", "perturbation")


class SmoothL2ProjectedGradientDescentAttack(
    CheckedFixedEpsilonAttack, L2ProjectedGradientDescentAttack
):
    """qPGD2: L2 projected gradient descent whose gradients are *smooth like* the image. [#Zhang20]_

    Each step follows the normalised smoothed gradient, is projected onto the L2 ball around the
    original and clipped to the bounds:

        x <- c(project(x - n(s^_alpha(g))))                                               (12)

    with s^_alpha guided by the original, see :class:`~foolart.plugins.smoothing.GuidedSmoothing`.
    It is Foolbox's ``L2ProjectedGradientDescentAttack`` but for the smoothing, and with ``alpha=0``
    the same, without a random start, which would not be smooth. One forward and one backward pass
    and one solve a step. For the smallest epsilon of each sample, wrap it in ``MinimalEpsilon``.

    The "q" stands for quick and dirty: on flat images the smoothed gradient has little left in
    common with the gradient, and the attack fails where PGD succeeds. That is the paper's point.

    Deviations from Foolbox's attack: inputs that are misclassified already come back untouched;
    the loss is the log-odds, whose normalised gradient is that of the cross-entropy, but does not
    round to 0 where the model is sure; the parameters' gradients are left alone.

    Args:
        rel_stepsize: Length of a step relative to epsilon.
        abs_stepsize: If given, it takes precedence, in the units of the bounds; the paper uses 3
            with epsilon 5, in [0, 1].
        steps: Number of steps, each with one gradient.
        alpha: Strength of the smoothing, in [0, 1); 0 switches it off.
        kernel: ``"laplacian"`` or ``"gaussian"``, the feature kernel of the pixel graph.
        bandwidth: Width of the kernel, for pixels in [0, 1].
        per_channel: Whether every channel has a graph of its own.
        smoothed: ``"gradient"`` as above, or ``"perturbation"`` as in the authors' code: a step
            follows the plain gradient, and what has accumulated is smoothed after each.
        channel_axis: Axis of the channels; None asks the model for its ``data_format``.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels or model do not fit.

    References:
        .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Smooth
            adversarial examples", EURASIP Journal on Information Security 2020(15),
            https://doi.org/10.1186/s13635-020-00112-z
    """

    def __init__(
        self,
        *,
        rel_stepsize: float = 0.025,
        abs_stepsize: float | None = None,
        steps: int = 50,
        alpha: float = 0.997,
        kernel: str = "laplacian",
        bandwidth: float = 0.1,
        per_channel: bool = False,
        smoothed: str = "gradient",
        channel_axis: int | None = None,
    ):
        for name, value in (("rel_stepsize", rel_stepsize), ("abs_stepsize", abs_stepsize)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"expected {name} > 0 and finite, got {value}")
        if not steps >= 1:
            raise ValueError(f"expected steps >= 1, got {steps}")
        check_smoothing(alpha, kernel, bandwidth)
        if smoothed not in SMOOTHED:
            raise ValueError(
                f"expected smoothed to be one of {', '.join(SMOOTHED)}, got {smoothed!r}"
            )
        check_channel_axis(channel_axis)
        super().__init__(
            rel_stepsize=rel_stepsize, abs_stepsize=abs_stepsize, steps=steps, random_start=False
        )
        self.alpha = alpha
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.per_channel = per_channel
        self.smoothed = smoothed
        self.channel_axis = channel_axis

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Run the attack; see :class:`foolbox.attacks.base.FixedEpsilonAttack`."""
        raise_if_kwargs(kwargs)
        originals, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, originals, criterion)
        del inputs, criterion, kwargs

        box = problem.box(None)
        score = problem.score(box, "log_probability")
        x0 = box.encode(originals)
        smoothing = guided_smoothing(
            problem,
            x0,
            self.channel_axis,
            alpha=self.alpha,
            kernel=self.kernel,
            bandwidth=self.bandwidth,
            per_channel=self.per_channel,
        )
        radius = epsilon / box.step
        absolute = self.abs_stepsize
        stepsize = self.rel_stepsize * radius if absolute is None else absolute / box.step

        x = x0
        for i in range(self.steps):
            (_, adversarial, *_), g = value_and_gradient(score, x)
            if i == 0:
                untouched = atleast_kd(adversarial, x.ndim)
            if self.smoothed == "gradient":
                g = smoothing(g)
            x = x - stepsize * self.normalize(g, x=x, bounds=(0, 1))
            if self.smoothed == "perturbation":
                x = x0 + smoothing(x - x0)
            x = self.project(x, x0, radius).clip(0, 1)
        return restore_type(ep.where(untouched, originals, box.decode(x, originals.dtype)))
