"""The smooth Carlini & Wagner attack: perturbations as smooth as the image they are added to."""

from __future__ import annotations

import math
from typing import Any

import eagerpy as ep
from foolbox.attacks.base import T, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models import Model

from foolart.plugins.adam import Adam
from foolart.plugins.gradients import atleast_kd, inner, value_and_gradient
from foolart.plugins.smoothing import check_smoothing
from foolart.plugins.smoothness import (
    SMOOTHNESS,
    Constraint,
    Free,
    Penalty,
    Relaxation,
    Smoothness,
)

from .best import Best
from .guided import check_channel_axis, guided_smoothing
from .problem import CheckedMinimizationAttack, Problem


class SmoothCarliniWagnerAttack(CheckedMinimizationAttack):
    """sC&W: the Carlini & Wagner L2 attack with perturbations *smooth like* the image. [#Zhang20]_

    It minimizes, for each sample,

        ||s^_alpha(z)||^2 + c [margin(clip(x + s^_alpha(z))) + confidence]_+              (18)

    by Adam over the latent z, which starts at 0, where s^_alpha is the smoothing guided by the
    original x, see :class:`~foolart.plugins.smoothing.GuidedSmoothing`, and searches for the
    constant c = 1 / lambda that serves best. Among all iterates of all searches that fool the
    model, it returns the one whose *clipped* image is closest to x, the input itself where none
    was found or where the input is misclassified already. One forward and one backward pass a
    step, and two solves.

    The perturbation r = s^_alpha(z) is explicit and the image is clipped, where Foolbox's
    ``L2CarliniWagnerAttack`` hides both in a tanh. To tell the effect of smoothness from that of
    this choice, and to check that smoothness belongs where the paper puts it, ``smoothness``
    offers the paper's other forms.

    Deviations from the authors' code: the squared norm as in the paper, since the gradient of the
    norm itself is infinite at 0; an exact solve and its exact adjoint, where they differentiate
    through 50 steps of conjugate gradient; the best image by the distance of the clipped one.
    Deviations from Foolbox's attack: lengths and ``stepsize`` are relative to the bounds, whatever
    these are; ``abort_early`` judges each sample by its lowest loss, so that no result depends on
    the batch; the last search is like the others.

    Args:
        binary_search_steps: Number of steps of the search over the constant c.
        steps: Number of steps of Adam, and of gradients, in each of them.
        stepsize: Step size of Adam, in z, for inputs in [0, 1]. Smoothing shrinks a step that is
            mere noise to some 10 % of its length, so this is larger than for other attacks.
        confidence: The margin of logits by which an adversarial must be one, the paper's m.
        initial_const: The first value of c. It grows tenfold until a search succeeds, and halves
            the interval between failure and success from then on.
        abort_early: Whether a sample rests until the next search once a tenth of the steps brought
            no loss below the lowest before; a search ends when all samples rest. Off by default,
            since Adam overshoots at first: it costs distortion where steps are few.
        alpha: Strength of the smoothing, in [0, 1); 0 switches it off.
        kernel: ``"laplacian"`` or ``"gaussian"``, the feature kernel of the pixel graph.
        bandwidth: Width of the kernel, for pixels in [0, 1].
        per_channel: Whether every channel has a graph of its own.
        smoothness: ``"constraint"`` as above; ``"free"``: r itself is the variable (13), explicit-r
            C&W; ``"penalty"``: so it is, with roughness in the loss (14); ``"relaxation"``: both r
            and z are variables, coupled in the loss (15).
        mu: Weight of the coupling in (14) and (15), relative to that of the distortion.
        channel_axis: Axis of the channels; None asks the model for its ``data_format``.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels or model do not fit.

    References:
        .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Smooth
            adversarial examples", EURASIP Journal on Information Security 2020(15),
            https://doi.org/10.1186/s13635-020-00112-z
        .. [#Carl16] Nicholas Carlini, David Wagner, "Towards evaluating the robustness of neural
            networks", IEEE Symposium on Security and Privacy 2017,
            https://arxiv.org/abs/1608.04644
    """

    distance = l2

    def __init__(
        self,
        *,
        binary_search_steps: int = 9,
        steps: int = 1000,
        stepsize: float = 0.1,
        confidence: float = 0.0,
        initial_const: float = 1.0,
        abort_early: bool = False,
        alpha: float = 0.997,
        kernel: str = "laplacian",
        bandwidth: float = 0.1,
        per_channel: bool = False,
        smoothness: str = "constraint",
        mu: float = 1.0,
        channel_axis: int | None = None,
    ):
        if not binary_search_steps >= 1:
            raise ValueError(f"expected binary_search_steps >= 1, got {binary_search_steps}")
        if not steps >= 1:
            raise ValueError(f"expected steps >= 1, got {steps}")
        if not 0 < stepsize < math.inf:
            raise ValueError(f"expected stepsize > 0 and finite, got {stepsize}")
        if not 0 <= confidence < math.inf:
            raise ValueError(f"expected confidence >= 0 and finite, got {confidence}")
        if not 0 < initial_const < math.inf:
            raise ValueError(f"expected initial_const > 0 and finite, got {initial_const}")
        check_smoothing(alpha, kernel, bandwidth)
        if smoothness not in SMOOTHNESS:
            raise ValueError(
                f"expected smoothness to be one of {', '.join(SMOOTHNESS)}, got {smoothness!r}"
            )
        if not 0 <= mu < math.inf:
            raise ValueError(f"expected mu >= 0 and finite, got {mu}")
        check_channel_axis(channel_axis)
        self.binary_search_steps = binary_search_steps
        self.steps = steps
        self.stepsize = stepsize
        self.confidence = confidence
        self.initial_const = initial_const
        self.abort_early = abort_early
        self.alpha = alpha
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.per_channel = per_channel
        self.smoothness = smoothness
        self.mu = mu
        self.channel_axis = channel_axis

    @classmethod
    def mnist(cls, **parameters: Any) -> SmoothCarliniWagnerAttack:
        """The paper's settings on MNIST; parameters given take precedence."""
        settings = {"alpha": 0.95, "initial_const": 15.0, "stepsize": 0.1, "confidence": 1.0}
        return cls(**{**settings, **parameters})

    @classmethod
    def imagenet(cls, **parameters: Any) -> SmoothCarliniWagnerAttack:
        """The paper's settings on ImageNet; parameters given take precedence."""
        settings = {"alpha": 0.997, "initial_const": 100.0, "stepsize": 0.1, "confidence": 0.0}
        return cls(**{**settings, **parameters})

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
        del inputs, criterion, early_stop, kwargs

        box = problem.box(None)
        score = problem.score(box)
        x = box.encode(originals)
        form = self._form(problem, x)
        best = Best.none(x).where_closer(ep.zeros_like(x), problem.judge(box, x)[1])
        const = ep.full(x, len(x), self.initial_const)
        lower, upper = ep.zeros_like(const), ep.full_like(const, ep.inf)

        for _ in range(self.binary_search_steps):
            adam = Adam(form.start(x), self.stepsize)
            found, active = const < 0, const > 0
            lowest = before = ep.full_like(const, ep.inf)
            for i in range(self.steps):
                r = form.perturbation(adam.variable)
                y = x + r
                clipped = y.clip(0, 1)
                moved = clipped - x
                (_, adversarial, margin), g = value_and_gradient(score, x + moved)
                short = ep.maximum(margin + self.confidence, 0)
                fools = ep.logical_and(ep.logical_and(adversarial, short <= 0), active)
                best = best.where_closer(moved, fools)
                found = ep.logical_or(found, fools)

                if self.abort_early:
                    lowest = ep.minimum(lowest, inner(r, r) + const * short)
                    if i % math.ceil(self.steps / 10) == 0:
                        active = ep.logical_and(active, lowest <= 0.9999 * before)
                        before = lowest
                        if not active.any().item():
                            break
                push = atleast_kd(const * ep.where(short > 0, 1.0, 0.0), x.ndim)
                g = ep.where(y == clipped, push * g, 0.0) + 2 * r
                adam.step(form.gradient(adam.variable, r, g))

            lower, upper = ep.where(found, lower, const), ep.where(found, const, upper)
            const = ep.where(upper < ep.inf, (lower + upper) / 2, 10 * const)
        return restore_type(best.images(problem, box, x))

    def _form(self, problem: Problem, x: ep.Tensor) -> Smoothness:
        if self.smoothness == "free":
            return Free()
        smoothing = guided_smoothing(
            problem,
            x,
            self.channel_axis,
            alpha=0.0 if self.smoothness == "penalty" else self.alpha,
            kernel=self.kernel,
            bandwidth=self.bandwidth,
            per_channel=self.per_channel,
        )
        if self.smoothness == "penalty":
            return Penalty(smoothing, self.mu)
        if self.smoothness == "relaxation":
            return Relaxation(smoothing, self.mu)
        return Constraint(smoothing)
