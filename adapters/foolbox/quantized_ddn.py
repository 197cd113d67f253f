"""DDN on the grid: every iterate is a digital image."""

from __future__ import annotations

import math
from typing import Any

import eagerpy as ep
from foolbox.attacks.base import T, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models import Model

from foolart.plugins.box import check_levels, rint
from foolart.plugins.gradients import atleast_kd, norm, value_and_gradient
from foolart.plugins.quantization import LagrangianQuantizer

from .best import Best
from .problem import LOSSES, CheckedMinimizationAttack, Problem


class QuantizedDDNAttack(CheckedMinimizationAttack):
    """DDN whose iterates lie on the grid of levels, by rounding or by Q_delta.

    Each iteration steps against the gradient, (10), scales the perturbation to a norm that shrinks
    where the image is adversarial and grows where it is not, (11), and moves the result to the
    grid: by plain rounding [#Ron19]_, or by the Lagrangian quantiser, which spends the scheduled
    distortion on the elements that lower the loss most (section 6 of [#Bon20]_). It reuses the
    gradient of the iteration: ``steps`` forwards and backwards, and one forward at the end.

    Args:
        steps: Number of iterations, and of gradients.
        init_epsilon: Initial norm of the perturbation, for images in [0, 1], whatever the bounds.
        gamma: Factor by which the norm is modified: ``norm * (1 + gamma)`` or ``(1 - gamma)``.
        quantization: ``"rounding"`` or ``"lagrangian"``.
        loss: ``"log_probability"`` as published, or ``"margin"``.
        levels: Number of levels between the bounds, ends included; the originals lie on them.

    Raises:
        ValueError: If an argument is out of range.

    Deviations from Foolbox's ``DDNAttack`` and the papers: lengths are relative to the bounds; the
    last iterate is scored too; a vanishing gradient leaves the image where it is, instead of moving
    it at random; ``early_stop`` is ignored, as in Foolbox.

    References:
        .. [#Ron19] Jérôme Rony, Luiz G. Hafemann, Luiz S. Oliveira, Ismail Ben Ayed, Robert
            Sabourin, Eric Granger, "Decoupling Direction and Norm for Efficient Gradient-Based L2
            Adversarial Attacks and Defenses", CVPR 2019, https://arxiv.org/abs/1811.09600
        .. [#Bon20] Benoît Bonnet, Teddy Furon, Patrick Bas, "What if Adversarial Samples were
            Digital Images?", IH&MMSec 2020, https://hal.science/hal-02553006
    """

    distance = l2

    def __init__(
        self,
        *,
        steps: int = 100,
        init_epsilon: float = 1.0,
        gamma: float = 0.05,
        quantization: str = "rounding",
        loss: str = "log_probability",
        levels: int = 256,
    ):
        if not steps >= 1:
            raise ValueError(f"expected steps >= 1, got {steps}")
        if not 0 < init_epsilon < math.inf:
            raise ValueError(f"expected init_epsilon > 0 and finite, got {init_epsilon}")
        if not 0 < gamma < 1:
            raise ValueError(f"expected gamma between 0 and 1, got {gamma}")
        if quantization not in ("rounding", "lagrangian"):
            raise ValueError(
                f"expected quantization to be 'rounding' or 'lagrangian', got {quantization!r}"
            )
        if loss not in LOSSES:
            raise ValueError(f"expected loss to be one of {sorted(LOSSES)}, got {loss!r}")
        if levels is None:
            raise ValueError(
                "expected levels to be an integer from 2 to 65536, got None: for continuous inputs "
                "use foolbox.attacks.DDNAttack"
            )
        check_levels(levels)
        self.steps = steps
        self.init_epsilon = init_epsilon
        self.gamma = gamma
        self.quantization = quantization
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
        originals, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, originals, criterion)
        del inputs, criterion, kwargs

        box = problem.box(self.levels)
        score = problem.score(box, self.loss)
        x = rint(box.encode(originals))
        delta = ep.zeros_like(x)
        rho = norm(delta) + self.init_epsilon * box.top
        largest = norm(ep.maximum(x, box.top - x))
        best = Best.none(x)

        for i in range(self.steps):
            (_, adversarial, *_), gradient = value_and_gradient(score, x + delta)
            best = best.where_closer(delta, adversarial)

            alpha = box.top * (0.01 + 0.99 * (1 + math.cos(math.pi * i / self.steps)) / 2)
            delta = delta - gradient * _scale(alpha, gradient)
            rho = rho * ep.where(adversarial, 1 - self.gamma, 1 + self.gamma)
            rho = ep.minimum(rho, largest)
            y = (x + delta * _scale(rho, delta)).clip(0, box.top)
            if self.quantization == "lagrangian":
                quantizer = LagrangianQuantizer(x, y, gradient, noise=box.noise)
                y = quantizer.spend(rho.square(), above=adversarial.logical_not())
            delta = rint(y) - x

        _, adversarial = problem.judge(box, x + delta)
        best = best.where_closer(delta, adversarial)
        return restore_type(best.images(problem, box, x))


def _scale(length: float | ep.Tensor, vectors: ep.Tensor) -> ep.Tensor:
    # What gives vectors (N, ...) a length; one of length 0 has no direction, and stays 0.
    return atleast_kd(length / ep.maximum(norm(vectors), 1e-30), vectors.ndim)
