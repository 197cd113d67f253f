"""The geometry of Boundary Projection (BP): where the next iterate lies, and how it is rounded.

References:
    .. [#Zhang21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021, chapter 5,
        algorithms 1 and 2. Equation numbers below are the thesis's.
    .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Walking on the edge:
        fast, low-distortion adversarial examples", https://arxiv.org/abs/1912.02153
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import eagerpy as ep

from .box import Box, rint
from .gradients import atleast_kd, inner, norm

IMAGENET_SIZE = 224 * 224 * 3
BISECTIONS = 9


def schedule(i: int, steps: int, gamma_min: float) -> float:
    """gamma_i of equation (5.1), growing from ``gamma_min`` towards 1 over all steps."""
    return gamma_min + i / (steps + 1) * (1 - gamma_min)


def imagenet_length(box: Box, size: int) -> float:
    """What a length of 1 on [0, 1] at 224x224x3 amounts to for inputs of ``size`` elements.

    Lengths grow with the square root of the number of elements and with the box, so that a step
    changes each element by as much whatever the input.
    """
    return box.top * math.sqrt(size / IMAGENET_SIZE)


def per_sample_size(x: ep.Tensor) -> int:
    """The number of elements of one sample of a batch ``(N, ...)``."""
    return math.prod(x.shape[1:])


@dataclass(frozen=True)
class Step:
    """One step of BP for every sample of a batch, before its length is settled.

    The candidates ``(a + t (1 - a)) r + (b + t c) g`` are a line in the plane of the perturbation r
    and the gradient g. Their length grows with t and shall be epsilon. All fields are ``(N,)``.

    Attributes:
        a: Share of r that is kept at t = 0, 0 or 1; at t = 1 all of it is.
        b: Multiple of g at t = 0.
        c: Change of the multiple of g per unit of t.
        epsilon: The length to be reached, in encoded units.
        t: Where an unrounded candidate has that length.
        t_max: Where a rounded candidate has at least that length, whatever the rounding does.
    """

    a: ep.Tensor
    b: ep.Tensor
    c: ep.Tensor
    epsilon: ep.Tensor
    t: ep.Tensor
    t_max: ep.Tensor

    def candidate(self, t: ep.Tensor, r: ep.Tensor, g: ep.Tensor) -> ep.Tensor:
        """The candidate perturbations for per-sample t ``(N,)``, of the shape of r."""
        of_r = atleast_kd(self.a + t * (1 - self.a), r.ndim)
        of_g = atleast_kd(self.b + t * self.c, r.ndim)
        return of_r * r + of_g * g

    def where(self, condition: ep.Tensor, other: Step) -> Step:
        """This step for the samples where ``condition`` ``(N,)`` holds, the other elsewhere."""
        return Step(
            **{
                field.name: ep.where(
                    condition, getattr(self, field.name), getattr(other, field.name)
                )
                for field in fields(Step)
            }
        )

    def take(self, r: ep.Tensor, g: ep.Tensor, box: Box) -> ep.Tensor:
        """Q_OUT (5.7) and Q_IN (5.10): the rounded candidate whose length comes closest to epsilon.

        The length of rounded candidates is found by bisection, all samples together and without the
        model: the longest that does not exceed epsilon where the step shall shorten r (a = 0), the
        shortest that reaches it where it shall lengthen r. So no step rounds to nothing as long as
        the grid has a shorter or longer candidate, even where gamma is nearly 1.

        Args:
            r: The perturbation ``(N, ...)``, in encoded units.
            g: The gradient, of the same shape.
            box: Says whether there are levels to round to; without, the exact step is taken.
        """
        if box.levels is None:
            return self.candidate(self.t, r, g)
        low, high = ep.zeros_like(self.t), self.t_max
        for _ in range(BISECTIONS):
            t = (low + high) / 2
            reached = norm(rint(self.candidate(t, r, g))) > self.epsilon
            low, high = ep.where(reached, low, t), ep.where(reached, t, high)
        return rint(self.candidate(ep.where(self.a == 0, low, high), r, g))


@dataclass(frozen=True)
class Position:
    """Where an iterate lies: what both cases of BP need of the perturbation r and the gradient g.

    Attributes:
        r_norm: ``||r||``, ``(N,)``.
        g_norm: ``||g||``, or a tiny number where the gradient is zero, ``(N,)``.
        rho: ``<r, g> / ||g||``, ``(N,)``.
        size: Number of elements of one sample.
    """

    r_norm: ep.Tensor
    g_norm: ep.Tensor
    rho: ep.Tensor
    size: int

    @classmethod
    def of(cls, r: ep.Tensor, g: ep.Tensor) -> Position:
        """The position for a perturbation and a gradient, both ``(N, ...)`` in encoded units."""
        g_norm = ep.maximum(norm(g), 1e-30)
        return cls(norm(r), g_norm, inner(r, g) / g_norm, per_sample_size(r))

    def first(self, length: float, loss: ep.Tensor) -> Step:
        """Stage 1, algorithm 1: a step against the gradient, wherever it leads.

        Deviation from the thesis, whose steps all have the given length: a step is as long as the
        loss predicts to the boundary, ``loss / ||g||``, where that is up to 8 times longer. Small
        images need it, since their distances do not shrink with their size.

        Args:
            length: Shortest length of the step.
            loss: The loss whose gradient is g, positive inside the class, ``(N,)``.
        """
        t = (loss / self.g_norm).clip(length, 8 * length)
        return self._against_gradient(ep.full_like(t, ep.inf), t, t)

    def along(self, loss: ep.Tensor, gamma: float) -> Step:
        """Case OUT, equations (5.3) to (5.7): along the boundary, to the length ``gamma ||r||``.

        The candidates ``v* + t (y - v*)`` lie in the hyperplane through y whose normal is the
        gradient; v*, at t = 0, is its point closest to the original.

        Deviations from the thesis: its condition ``rho < epsilon`` reads ``|rho| < epsilon``, since
        rho is normally negative. Where the hyperplane misses the sphere (r nearly parallel to g, as
        always on a linear model), the thesis stays at v* = y for ever; here the hyperplane moves
        back along the gradient by what is missing, but at most by the distance to the boundary
        that the loss predicts, ``|loss| / ||g||``.

        Args:
            loss: The loss whose gradient is g, negative where adversarial, ``(N,)``.
            gamma: Factor below 1.
        """
        epsilon = gamma * self.r_norm
        slack = -ep.minimum(loss, 0) / self.g_norm
        rho = -ep.maximum(ep.minimum(epsilon, -self.rho), -self.rho - slack)
        tangent = ep.maximum(self.r_norm.square() - self.rho.square(), 1e-12)
        t = (ep.maximum(epsilon.square() - rho.square(), 0) / tangent).sqrt()
        ones = ep.ones_like(rho)
        return Step(
            a=0 * ones,
            b=rho / self.g_norm,
            c=-self.rho / self.g_norm,
            epsilon=epsilon,
            t=ep.minimum(t, 1),
            t_max=ones,
        )

    def across(self, shortest: float, gamma: float) -> Step:
        """Case IN, equations (5.8) to (5.10): against the gradient, to length ``||r|| / gamma``.

        Deviation from the thesis: it rounds the exact solution, which moves no element at all once
        the step is spread over many of them, and BP stalls inside the class. Here, as in case OUT,
        it is the *rounded* candidate whose length is controlled.

        Args:
            shortest: Smallest length of the perturbation to aim at, beta_min of (5.10): r may be 0.
            gamma: Factor below 1.
        """
        epsilon = ep.maximum(self.r_norm / gamma, shortest)
        # Rounding moves a candidate by at most half a level an element.
        reach = epsilon + math.sqrt(self.size) / 2
        return self._against_gradient(epsilon, self._to_sphere(epsilon), self._to_sphere(reach))

    def _against_gradient(self, epsilon: ep.Tensor, t: ep.Tensor, t_max: ep.Tensor) -> Step:
        ones = ep.ones_like(self.rho)
        return Step(a=ones, b=0 * ones, c=-1 / self.g_norm, epsilon=epsilon, t=t, t_max=t_max)

    def _to_sphere(self, radius: ep.Tensor) -> ep.Tensor:
        return (
            self.rho
            + ep.maximum(radius.square() - self.r_norm.square() + self.rho.square(), 0).sqrt()
        )
