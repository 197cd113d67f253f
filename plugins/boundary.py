"""The geometry of Boundary Projection (BP): where the next iterate lies, and how it is rounded.

References:
    .. [#Zhang21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021, chapter 5,
        algorithms 1 and 2. Equation numbers below are the thesis's.
    .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Walking on the edge:
        fast, low-distortion adversarial examples", https://arxiv.org/abs/1912.02153
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import eagerpy as ep

from .box import Box, rint
from .gradients import atleast_kd, combine, inner, norm

IMAGENET_SIZE = 224 * 224 * 3
BISECTIONS = 9
TINY = 1e-30


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

    The candidates ``(a + t (1 - a)) r + (b + t c) d`` are a line in the plane of the perturbation r
    and the direction d. Their length grows with t and shall be epsilon. All fields are ``(N,)``.

    Attributes:
        a: Share of r that is kept at t = 0, 0 or 1; at t = 1 all of it is.
        b: Multiple of d at t = 0.
        c: Change of the multiple of d per unit of t.
        epsilon: The length to be reached, in encoded units.
        t: Where an unrounded candidate has that length.
        t_min: From where on the length grows.
        t_max: Where a rounded candidate has at least that length, whatever the rounding does.
    """

    a: ep.Tensor
    b: ep.Tensor
    c: ep.Tensor
    epsilon: ep.Tensor
    t: ep.Tensor
    t_min: ep.Tensor
    t_max: ep.Tensor

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

    def take(self, r: ep.Tensor, d: ep.Tensor, box: Box) -> ep.Tensor:
        """The candidate whose length *after rounding* comes closest to epsilon, not yet rounded.

        This is Q_OUT (5.7) and Q_IN (5.10). The length of rounded candidates is found by bisection,
        all samples together and without the model: the longest that does not exceed epsilon where
        the step shall shorten r (a = 0), the shortest that reaches it where it shall lengthen r. So
        no step rounds to nothing as long as the grid has a shorter or longer candidate, even where
        gamma is nearly 1.

        Args:
            r: The perturbation ``(N, ...)``, in encoded units.
            d: The direction, of the same shape.
            box: Says whether there are levels to round to; without, the exact step is taken.
        """
        if box.levels is None:
            return self._candidate(self.t, r, d)
        low, high = self.t_min, self.t_max
        rounded_length = self._rounded_length(r, d)
        for _ in range(BISECTIONS):
            t = (low + high) / 2
            reached = rounded_length(t) > self.epsilon
            low, high = ep.where(reached, low, t), ep.where(reached, t, high)
        return self._candidate(ep.where(self.a == 0, low, high), r, d)

    def _candidate(self, t: ep.Tensor, r: ep.Tensor, d: ep.Tensor) -> ep.Tensor:
        of_r, of_d = self._multiples(t)
        return combine(of_r, r, of_d, d)

    def _multiples(self, t: ep.Tensor) -> tuple[ep.Tensor, ep.Tensor]:
        return self.a + t * (1 - self.a), self.b + t * self.c

    def _rounded_length(self, r: ep.Tensor, d: ep.Tensor) -> Callable[[ep.Tensor], ep.Tensor]:
        """The length of the rounded candidate as a function of t; on PyTorch in one buffer."""
        if not isinstance(r, ep.PyTorchTensor):
            return lambda t: norm(rint(self._candidate(t, r, d)))
        from torch import mul

        buffer = r.raw.new_empty(r.shape)

        def rounded_length(t: ep.Tensor) -> ep.Tensor:
            of_r, of_d = (atleast_kd(factor, r.ndim) for factor in self._multiples(t))
            mul(r.raw, of_r.raw, out=buffer).addcmul_(d.raw, of_d.raw).round_()
            return norm(ep.astensor(buffer))

        return rounded_length


@dataclass(frozen=True)
class Position:
    """Where an iterate lies: the inner products that both cases of BP need, each ``(N,)``.

    BP moves along its gradient g. Its smooth variant moves along another direction d, the smoothed
    gradient, while the loss still changes by ``<g, .>``: with d = g the formulas are the thesis's.

    Attributes:
        rr: ``<r, r>`` of the perturbation r.
        rg: ``<r, g>``; rho of the thesis is ``<r, g> / ||g||``.
        rd: ``<r, d>``.
        dg: ``<d, g>``, or a tiny number where the gradient is zero.
        dd: ``<d, d>``, likewise.
        size: Number of elements of one sample.
    """

    rr: ep.Tensor
    rg: ep.Tensor
    rd: ep.Tensor
    dg: ep.Tensor
    dd: ep.Tensor
    size: int

    @classmethod
    def of(cls, r: ep.Tensor, g: ep.Tensor, d: ep.Tensor) -> Position:
        """The position for a perturbation, a gradient and a direction, maybe the gradient itself.

        Args:
            r: The perturbation ``(N, ...)``, in encoded units.
            g: The gradient of the loss in encoded units, of the same shape.
            d: A direction with ``<d, g> > 0``, of the same shape.
        """
        rg, dg = inner(r, g), ep.maximum(inner(d, g), TINY)
        rd, dd = (rg, dg) if d is g else (inner(r, d), ep.maximum(inner(d, d), TINY))
        return cls(inner(r, r), rg, rd, dg, dd, per_sample_size(r))

    def first(self, length: float, loss: ep.Tensor) -> Step:
        """Stage 1, algorithm 1: a step against the gradient, wherever it leads.

        Deviation from the thesis, whose steps all have the given length: a step is as long as the
        loss predicts to the boundary where that is up to 8 times longer. Small images need it,
        since their distances do not shrink with their size.

        Args:
            length: Shortest length of the step.
            loss: The loss whose gradient is g, positive inside the class, ``(N,)``.
        """
        unit = self.dd.sqrt()
        t = (loss * unit / self.dg).clip(length, 8 * length) / unit
        return self._against_direction(ep.full_like(t, ep.inf), t, t)

    def along(self, loss: ep.Tensor, gamma: float) -> Step:
        """Case OUT, equations (5.3) to (5.7): along the boundary, to the length ``gamma ||r||``.

        The candidates ``v* + t (y - v*)`` lie in the hyperplane through y whose normal is the
        gradient; v*, at t = 0, is the point where the line along d through the original meets it.

        Deviations from the thesis: its condition ``rho < epsilon`` reads ``|rho| < epsilon``, since
        rho is normally negative. Where the hyperplane misses the sphere (r nearly parallel to d, as
        always on a linear model), the thesis stays at v* = y for ever; here the hyperplane moves
        back along d by what is missing, but at most by the distance to the boundary that the loss
        predicts, ``|loss| / ||g||``.

        Args:
            loss: The loss whose gradient is g, negative where adversarial, ``(N,)``.
            gamma: Factor below 1.
        """
        epsilon = gamma * self.rr.sqrt()
        k = self.rg / self.dg
        slack = -ep.minimum(loss, 0) / self.dg
        start = -ep.maximum(ep.minimum(epsilon / self.dd.sqrt(), -k), -k - slack)
        # Squared length of start d + t (r - k d): the roots of A t^2 + 2 B t + C = epsilon^2.
        A = ep.maximum(self.rr - 2 * k * self.rd + k.square() * self.dd, TINY)
        B = start * (self.rd - k * self.dd)
        C = start.square() * self.dd
        t_min = (-B / A).clip(0, 1)
        t = (-B + ep.maximum(B.square() - A * (C - epsilon.square()), 0).sqrt()) / A
        ones = ep.ones_like(k)
        return Step(0 * ones, start, -k, epsilon, ep.minimum(t, 1), t_min, ones)

    def across(self, shortest: float, gamma: float) -> Step:
        """Case IN, equations (5.8) to (5.10): against the gradient, to length ``||r|| / gamma``.

        Deviation from the thesis: it rounds the exact solution, which moves no element at all once
        the step is spread over many of them, and BP stalls inside the class. Here, as in case OUT,
        it is the *rounded* candidate whose length is controlled.

        Args:
            shortest: Smallest length of the perturbation to aim at, beta_min of (5.10): r may be 0.
            gamma: Factor below 1.
        """
        epsilon = ep.maximum(self.rr.sqrt() / gamma, shortest)
        # Rounding moves a candidate by at most half a level an element.
        reach = epsilon + math.sqrt(self.size) / 2
        return self._against_direction(epsilon, self._to_sphere(epsilon), self._to_sphere(reach))

    def _against_direction(self, epsilon: ep.Tensor, t: ep.Tensor, t_max: ep.Tensor) -> Step:
        ones = ep.ones_like(t)
        return Step(ones, 0 * ones, -ones, epsilon, t, 0 * ones, t_max)

    def _to_sphere(self, radius: ep.Tensor) -> ep.Tensor:
        gap = self.dd * (radius.square() - self.rr)
        return (self.rd + ep.maximum(self.rd.square() + gap, 0).sqrt()) / self.dd
