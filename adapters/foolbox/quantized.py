"""Digital images from any Foolbox attack."""

from __future__ import annotations

import math
from typing import Any

import eagerpy as ep
from foolbox.attacks.base import AttackWithDistance, MinimizationAttack, T
from foolbox.distances import Distance
from foolbox.models import Model

from foolart.plugins.box import Box, check_levels, rint
from foolart.plugins.gradients import atleast_kd, inner, margin, norm, value_and_gradient
from foolart.plugins.quantization import (
    LagrangianQuantizer,
    quantize_distortion,
    quantize_gradient,
    round_to_grid,
)

from .problem import Problem, check_outputs, checked_call, criterion_of
from .weighting import Weights, check_weights, weights_of

METHODS = ("lagrangian", "rounding", "distortion", "gradient")


class Quantized(AttackWithDistance):
    """Moves what any attack returns to the grid of digital images, so that it still fools.

    Wraps minimization and fixed-epsilon attacks, ``attack.repeat(n)`` included, and can itself be
    repeated [#Bon20]_. The raw and the clipped images that it returns lie on the grid of levels,
    and success is judged by one more forward on exactly these values: saved as PNG and read again,
    they are the same. An input that fails comes back unchanged.

    With ``epsilons=None``, success means adversarial. With a finite epsilon it means adversarial at
    a distance of at most epsilon, *after* quantisation: the quantised image where that is within
    epsilon, else that image clipped to epsilon and moved towards the original (Q_0). A minimization
    attack is quantised once for all epsilons, any other attack after it was clipped to each.

    Cost on top of the attack, each over the whole batch: one forward and backward, at most
    ``ceil(log2 |J|) + 2`` forwards of the search, 4 more where Q_infinity fails for an image, and
    one forward to judge each image that is returned (two where it was moved and fails, as the
    original takes its place). Methods other than ``"lagrangian"`` do not search, and take none of
    the arguments after ``levels``.

    Args:
        attack: The attack to wrap.
        method: ``"lagrangian"`` (Q_lambda), the smallest distortion that still fools the model;
            ``"rounding"`` (R), to the nearest level; ``"distortion"`` (Q_0), towards the original;
            ``"gradient"`` (Q_infinity), against the gradient.
        levels: Number of levels between the bounds, ends included: 256 for 8 bits. The originals
            must lie on them.
        search: ``"model"`` looks for lambda by the model's own predictions; ``"linear"`` by the
            loss linearised at the adversarial, without a forward: give it a ``margin``.
        margin: What the search asks for: the score of the class to leave falls below another by
            this much, or the target's rises above all others, in units of the model's outputs. For
            ``"model"``, images that then survive small differences, such as another decoder's; for
            ``"linear"``, a reserve for the error of the linearisation.
        bisections: Limit on the bisections of the search, by default none: 12 instead of 18 cost
            .3 % of the distance on images of 224x224.
        weights: Weights of the elements in the distortion: ``None`` for the squared L2 norm;
            ``"visibility"`` spares flat areas, where a change of +-1 shows (see
            :func:`~foolart.plugins.visibility.noise_visibility`); or a function from originals in
            [0, 1], ``(N, ...)``, to positive weights, both eagerpy tensors of that shape. Weights
            choose which elements change; distances and epsilons stay the attack's own.

    Raises:
        ValueError: If an argument is out of range. When called: for bad inputs, originals off the
            grid, and models with a single output.

    Deviations from the paper: the loss L_Q is the difference of the model's outputs, (21), which
    are usually logits. They do not saturate, and gave less distortion; where the model returns
    probabilities it is the paper's. Targeted, it is ``max_{k != t} z_k - z_t``. The failure of
    Q_infinity is not taken as final, as it is only for the linearised loss.

    References:
        .. [#Bon20] Benoît Bonnet, Teddy Furon, Patrick Bas, "What if Adversarial Samples were
            Digital Images?", IH&MMSec 2020, https://hal.science/hal-02553006
    """

    def __init__(
        self,
        attack: AttackWithDistance,
        *,
        method: str = "lagrangian",
        levels: int = 256,
        search: str = "model",
        margin: float = 0.0,
        bisections: int | None = None,
        weights: str | Weights | None = None,
    ):
        if not isinstance(attack, AttackWithDistance):
            raise ValueError(
                f"expected attack to be a Foolbox attack with a distance, got {attack!r}"
            )
        if method not in METHODS:
            raise ValueError(f"expected method to be one of {METHODS}, got {method!r}")
        if levels is None:
            raise ValueError("expected levels to be an integer from 2 to 65536, got None")
        check_levels(levels)
        if search not in ("model", "linear"):
            raise ValueError(f"expected search to be 'model' or 'linear', got {search!r}")
        if not 0 <= margin < math.inf:
            raise ValueError(f"expected margin to be finite and >= 0, got {margin}")
        if bisections is not None and not bisections >= 0:
            raise ValueError(f"expected bisections to be None or >= 0, got {bisections}")
        check_weights(weights)
        searches = (search, margin, bisections, weights) != ("model", 0, None, None)
        if searches and method != "lagrangian":
            raise ValueError(
                "expected search, margin, bisections and weights with method='lagrangian' only, as "
                f"method={method!r} does not search"
            )
        self.attack = attack
        self.method = method
        self.levels = levels
        self.search = search
        self.margin = margin
        self.bisections = bisections
        self.weights = weights

    @property
    def distance(self) -> Distance:
        """The distance of the wrapped attack."""
        return self.attack.distance

    def __call__(  # type: ignore[no-untyped-def, override, unused-ignore]
        self, model: Model, inputs: T, criterion: Any, *, epsilons: Any, **kwargs: Any
    ):
        """Run the wrapped attack and quantise its results; see :class:`foolbox.attacks.Attack`."""
        return checked_call(self._call, model, inputs, criterion, epsilons, kwargs)

    def _call(
        self, model: Model, inputs: Any, criterion: Any, *, epsilons: Any, **kwargs: Any
    ) -> Any:
        x, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, x, criterion)
        box = problem.box(self.levels)
        several = isinstance(epsilons, list)
        epsilons = epsilons if several else [epsilons]
        del inputs, criterion

        xps, xpcs, _ = self.attack(
            model, x, criterion_of(problem.classes, problem.targeted), epsilons=epsilons, **kwargs
        )
        if isinstance(self.attack, MinimizationAttack):
            quantized = [self._quantize(problem, box, xps[0])] * len(epsilons)
        else:
            quantized = [self._quantize(problem, box, xpc) for xpc in xpcs]
        del xps, xpcs

        raw, clipped, success = [], [], []
        for images, epsilon in zip(quantized, epsilons, strict=True):
            within = images if epsilon is None else self._clip(box, x, images, epsilon)
            within, verdict = self._settle(problem, within)
            raw.append(restore_type(within if epsilon is None else images))
            clipped.append(restore_type(within))
            success.append(verdict)
        if several:
            return raw, clipped, restore_type(ep.stack(success))
        return raw[0], clipped[0], restore_type(success[0])

    def _quantize(self, problem: Problem, box: Box, adversarial: ep.Tensor) -> ep.Tensor:
        original, perturbed = rint(box.encode(problem.x)), box.encode(adversarial)
        if self.method == "rounding":
            levels = round_to_grid(original, perturbed)
        elif self.method == "distortion":
            levels = quantize_distortion(original, perturbed, box.noise)
        else:
            (loss, _, _), gradient = value_and_gradient(problem.score(box), perturbed)
            if self.method == "gradient":
                levels = quantize_gradient(original, perturbed, gradient, box.noise)
            else:
                levels = self._search(problem, box, original, perturbed, loss, gradient)
        moved = atleast_kd(norm(levels - original) > 0, levels.ndim)
        return ep.where(moved, box.decode(levels, problem.x.dtype), problem.x)

    def _search(
        self,
        problem: Problem,
        box: Box,
        original: ep.Tensor,
        perturbed: ep.Tensor,
        loss: ep.Tensor,
        gradient: ep.Tensor,
    ) -> ep.Tensor:
        def fools(k: ep.Tensor) -> ep.Tensor:
            if self.search == "linear":
                return loss + inner(k - perturbed, gradient) <= -self.margin  # (24)
            outputs, adversarial = problem.judge(box, k)
            if self.margin == 0:
                return adversarial
            lead = margin(outputs, problem.classes, problem.targeted)
            return ep.logical_and(adversarial, lead <= -self.margin)

        weights = weights_of(self.weights, problem, original / box.top)
        quantizer = LagrangianQuantizer(original, perturbed, gradient, weights, box.noise)
        levels, _ = quantizer.search(fools, self.bisections)
        return levels

    def _clip(self, box: Box, x: ep.Tensor, images: ep.Tensor, epsilon: float) -> ep.Tensor:
        near = self.distance(x, images) <= epsilon + 1e-3 * box.step
        clipped = box.encode(self.distance.clip_perturbation(x, images, epsilon))
        clipped = quantize_distortion(rint(box.encode(x)), clipped, box.noise)
        return ep.where(atleast_kd(near, x.ndim), images, box.decode(clipped, x.dtype))

    def _settle(self, problem: Problem, images: ep.Tensor) -> tuple[ep.Tensor, ep.Tensor]:
        def judge(images: ep.Tensor) -> ep.Tensor:
            outputs = problem.model(images)
            check_outputs(outputs, images)
            return problem.criterion(images, outputs)

        success = judge(images)
        lost = ep.logical_and(success.logical_not(), norm(images - problem.x) > 0)
        if bool(lost.any().item()):
            images = ep.where(atleast_kd(lost, images.ndim), problem.x, images)
            success = judge(images)
        return images, success
