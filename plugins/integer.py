"""Cheapest integer perturbations of digital images: optimal against a linear loss, by rounding.

Let x hold the integer levels of an image, let ``h = -grad m`` be the direction in which a margin m
falls, and ``m(x + D) = m(x) - <h, D>``. For every c > 0 the integer perturbation

    Q_c(h) = clip(round(c h), -x, top - x)

minimises ``||D||^2 - 2 c <h, D>``, element by element, and is therefore a shortest integer
perturbation among all that lower m at least as far as it does: a second level of an element costs
three times the first, and rounding takes it at three times the c. All that is left to find is a
direction h and one number c an image. The same holds for a weighted norm, with ``h / weights`` for
h, and for L_inf, with the sign of h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import eagerpy as ep

from .box import rint
from .gradients import atleast_kd, inner, norm
from .knapsack import LARGEST_INPUT, shortest

# What divides by zero otherwise, and what grows to infinity where a gradient vanishes.
TINY, HUGE = 1e-18, 1e30


@dataclass(frozen=True)
class Lattice:
    """The integer perturbations of a batch of digital images, measured in L2.

    Attributes:
        lower: The lowest perturbation of each element, ``-x``, ``(N, ...)``, in levels.
        upper: The highest perturbation of each element, ``top - x``, ``(N, ...)``, in levels.
        ease: The inverse of each element's weight in the norm, positive, broadcastable to
            ``(N, ...)``, or ``None`` for the plain norm.
    """

    lower: ep.Tensor
    upper: ep.Tensor
    ease: ep.Tensor | None = None

    @classmethod
    def of(cls, x: ep.Tensor, top: float, weights: ep.Tensor | None = None) -> Lattice:
        """The perturbations of images ``x`` ``(N, ...)`` whose levels are 0 to ``top``."""
        return cls(-x, top - x, None if weights is None else 1 / weights)

    def direction(self, h: ep.Tensor) -> ep.Tensor:
        """Where c leads, ``(N, ...)``: h by each element's ease."""
        return h if self.ease is None else h * self.ease

    def length(self, D: ep.Tensor) -> ep.Tensor:
        """The (weighted) norms of perturbations, in levels, ``(N,)``."""
        return norm(D) if self.ease is None else norm(D / self.ease.sqrt())

    def unit(self, h: ep.Tensor) -> ep.Tensor:
        """Gradients of length 1 in the norm dual to :meth:`length`, or 0 where they vanish."""
        return h / atleast_kd(ep.maximum(self._dual(h), TINY), h.ndim)

    def q(self, direction: ep.Tensor, c: ep.Tensor) -> ep.Tensor:
        """``Q_c``: the integer perturbations ``(N, ...)`` at c ``(N,)`` along directions."""
        D = rint(direction * atleast_kd(c, direction.ndim))
        return ep.minimum(ep.maximum(D, self.lower), self.upper)

    def bounds(self, direction: ep.Tensor) -> tuple[ep.Tensor, ep.Tensor]:
        """Up to which c nothing moves, and at which c some element has crossed the box, ``(N,)``.

        At the larger one, the fastest element would go twice through the box.
        """
        largest = direction.abs().reshape((len(direction), -1)).max(axis=-1)
        c = 0.5 / ep.maximum(largest, TINY)
        top = (self.upper - self.lower).reshape((len(direction), -1)).max(axis=-1)
        return c, c * (4 * top)

    def solve(
        self,
        direction: ep.Tensor,
        h: ep.Tensor,
        gain: ep.Tensor,
        bounds: tuple[ep.Tensor, ep.Tensor],
        bisections: int,
    ) -> ep.Tensor:
        """The smallest c within bounds at which ``<h, Q_c> >= gain``, or the upper bound.

        Bisects geometrically; the model is not called.

        Args:
            direction: Where c leads, ``(N, ...)``.
            h: The negative gradient that predicts the gain, ``(N, ...)``.
            gain: By how much the margin has to fall, ``(N,)``.
            bounds: Smallest and largest c, positive, ``(N,)`` each.
            bisections: Their number.
        """
        low, high = bounds
        for _ in range(bisections):
            c = low.sqrt() * high.sqrt()
            enough = inner(h, self.q(direction, c)) >= gain
            low, high = ep.where(enough, low, c), ep.where(enough, c, high)
        return high

    def exact(self, h: ep.Tensor, gain: ep.Tensor, D: ep.Tensor) -> ep.Tensor:
        """The very shortest D with ``<h, D> >= gain`` on tiny inputs, where rounding may miss it.

        Args:
            h: The negative gradient, ``(N, ...)``.
            gain: By how much the margin has to fall, ``(N,)``.
            D: The solution of :meth:`solve`, which is returned where it has no rival.
        """
        flat = h.reshape((len(h), -1))
        if self.ease is not None or flat.shape[1] > LARGEST_INPUT:
            return D
        lower, upper = self.lower.reshape(flat.shape), self.upper.reshape(flat.shape)
        shorter, exists = shortest(flat, gain, lower, upper)
        return ep.where(atleast_kd(exists, h.ndim), shorter.reshape(h.shape), D)

    def _dual(self, h: ep.Tensor) -> ep.Tensor:
        return norm(h) if self.ease is None else norm(h * self.ease.sqrt())


@dataclass(frozen=True)
class LinfLattice(Lattice):
    """The integer perturbations of a batch of digital images, measured in L_inf.

    ``Q_c`` moves all elements by round(c) levels along the sign of h, or by ``round(c / weights)``:
    no perturbation of that size gains more.
    """

    def direction(self, h: ep.Tensor) -> ep.Tensor:
        """Where c leads, ``(N, ...)``: the sign of h by each element's ease."""
        return super().direction(h.sign())

    def length(self, D: ep.Tensor) -> ep.Tensor:
        """The (weighted) norms of perturbations, in levels, ``(N,)``."""
        D = D.abs() if self.ease is None else D.abs() / self.ease
        return D.reshape((len(D), -1)).max(axis=-1)

    def exact(self, h: ep.Tensor, gain: ep.Tensor, D: ep.Tensor) -> ep.Tensor:
        """D itself: in this norm the solution of :meth:`solve` has no rival."""
        return D

    def _dual(self, h: ep.Tensor) -> ep.Tensor:
        return super().direction(h).abs().reshape((len(h), -1)).sum(axis=-1)


@dataclass(frozen=True)
class Aim:
    """A perturbation of every sample of a batch, and where it came from.

    Attributes:
        lattice: The perturbations among which to choose.
        h: Average of the negative gradients so far, each of dual norm 1, ``(N, ...)``.
        c: How far to follow it, ``(N,)``.
        offset: By how much linear predictions have been wrong lately, ``(N,)``: the sum of the
            margins that were reached where 0 was predicted, older ones counting less.
        D: The perturbation, ``(N, ...)``, in levels.
    """

    lattice: Lattice
    h: ep.Tensor
    c: ep.Tensor
    offset: ep.Tensor
    D: ep.Tensor

    # By how much a step changes c at most, up or down, and up while nothing adversarial was found.
    _CAUTION = 1.5
    _STRIDE = 3.0

    @classmethod
    def first(cls, lattice: Lattice, n: ep.Tensor, margin: ep.Tensor) -> Aim:
        """The shortest perturbations for which a linear model predicts success.

        Args:
            lattice: The perturbations among which to choose.
            n: The negative gradient of the margin at the originals, ``(N, ...)``.
            margin: The margin there, ``(N,)``.
        """
        h = lattice.unit(n)
        direction = lattice.direction(h)
        # A margin of 0 is a tie, which may not be a success.
        margin = margin * (1 + 1e-6)
        c = lattice.solve(direction, n, margin, lattice.bounds(direction), 12)
        D = lattice.exact(n, margin, lattice.q(direction, c))
        return cls(lattice, h, c, ep.zeros_like(c), D)

    def cost(self, n: ep.Tensor, margin: ep.Tensor) -> ep.Tensor:
        """The length of D, or infinity where a linear model predicts that it fails, ``(N,)``."""
        enough = inner(n, self.D) >= margin
        return ep.where(enough, self.lattice.length(self.D), ep.full_like(margin, ep.inf))

    def where(self, condition: ep.Tensor, other: Aim) -> Aim:
        """This aim where ``condition`` ``(N,)`` holds, the other one elsewhere."""
        elementwise = atleast_kd(condition, self.h.ndim)
        return Aim(
            self.lattice,
            ep.where(elementwise, self.h, other.h),
            ep.where(condition, self.c, other.c),
            ep.where(condition, self.offset, other.offset),
            ep.where(elementwise, self.D, other.D),
        )

    def corrected(
        self, n: ep.Tensor, margin: ep.Tensor, k: int, steps: int, found: ep.Tensor
    ) -> Aim:
        """Aim again, after a gradient at D.

        Args:
            n: The negative gradient of the margin at D, ``(N, ...)``.
            margin: The margin that was reached there instead of 0, ``(N,)``.
            k: The number of corrections before this one.
            steps: The number of gradients of the whole run. The offset remembers about a quarter
                of them: without forgetting it still pushes long after a robust model has given way.
            found: Whether an adversarial has been found so far, ``(N,)``.
        """
        h = self.h + (self.lattice.unit(n) - self.h) * (2 / (k + 2))
        direction = self.lattice.direction(h)
        offset = self.offset * max(0.0, 1 - 4 / steps) + margin
        gain = margin + offset + inner(n, self.D)
        furthest = ep.minimum(self.c * ep.where(found, self._CAUTION, self._STRIDE), HUGE)
        c = self.lattice.solve(direction, n, gain, (self.c / self._CAUTION, furthest), 8)
        return Aim(self.lattice, h, c, offset, self.lattice.q(direction, c))

    def at(self, c: ep.Tensor) -> Aim:
        """The same direction, followed up to another c ``(N,)``."""
        c = ep.minimum(c, HUGE)
        return replace(self, c=c, D=self.lattice.q(self.lattice.direction(self.h), c))


@dataclass(frozen=True)
class Bracket:
    """A search for the smallest c at which an image is adversarial, for every sample of a batch.

    Until both sides are known, c moves by ever longer steps; then it bisects, geometrically.

    Attributes:
        low: Largest c that has failed, or 0, ``(N,)``.
        high: Smallest c that has succeeded, or infinity, ``(N,)``.
        stride: Factor by which c moves while one side is unknown, ``(N,)``.
    """

    low: ep.Tensor
    high: ep.Tensor
    stride: ep.Tensor

    @classmethod
    def unknown(cls, c: ep.Tensor, stride: float = 1.05) -> Bracket:
        """Nothing is known yet of samples with c ``(N,)``."""
        return cls(ep.zeros_like(c), ep.full_like(c, ep.inf), ep.full_like(c, stride))

    def narrowed(self, c: ep.Tensor, adversarial: ep.Tensor) -> tuple[Bracket, ep.Tensor]:
        """What is known after a trial at c ``(N,)``, and the c to try next."""
        low = ep.where(adversarial, self.low, c)
        high = ep.where(adversarial, c, self.high)
        outside = ep.where(adversarial, c / self.stride, c * self.stride)
        both = ep.logical_and(low > 0, high < ep.inf)
        between = low.sqrt() * ep.where(both, high, low).sqrt()
        stride = ep.minimum(self.stride.square(), 1e3)
        return Bracket(low, high, stride), ep.where(both, between, outside)
