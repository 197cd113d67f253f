"""Where smoothness enters an optimisation over perturbations: in the variable, in the loss, or not.

An attack descends in a variable v that starts at zero, moves the image by ``perturbation(v)``, and
asks for the gradient in v of its loss, given the gradient in r. References are to equations of
[#Zhang20]_ in :mod:`foolart.plugins.smoothing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import eagerpy as ep

from foolart.plugins.smoothing import GuidedSmoothing

SMOOTHNESS = ("constraint", "penalty", "relaxation", "free")


class Smoothness(Protocol):
    """How a variable makes a perturbation."""

    def start(self, x: ep.Tensor) -> ep.Tensor:
        """The variable that stands for no perturbation of images ``x``."""
        ...

    def perturbation(self, v: ep.Tensor) -> ep.Tensor:
        """The perturbation r of a variable v, of the shape of the images."""
        ...

    def gradient(self, v: ep.Tensor, r: ep.Tensor, g: ep.Tensor) -> ep.Tensor:
        """The gradient in v of the whole loss; ``g`` is that of the attack's part of it in r."""
        ...


@dataclass(frozen=True)
class Constraint:
    """r = s^_alpha(z), equations (17) and (18): every perturbation is smooth."""

    smoothing: GuidedSmoothing

    def start(self, x: ep.Tensor) -> ep.Tensor:
        """Z = 0."""
        return ep.zeros_like(x)

    def perturbation(self, v: ep.Tensor) -> ep.Tensor:
        """Smooth z."""
        r: ep.Tensor = self.smoothing(v)
        return r

    def gradient(self, v: ep.Tensor, r: ep.Tensor, g: ep.Tensor) -> ep.Tensor:
        """Pull the gradient back to z, (19)."""
        pulled: ep.Tensor = self.smoothing.adjoint(g)
        return pulled


@dataclass(frozen=True)
class Free:
    """r itself, equation (13): no smoothness."""

    def start(self, x: ep.Tensor) -> ep.Tensor:
        """R = 0."""
        return ep.zeros_like(x)

    def perturbation(self, v: ep.Tensor) -> ep.Tensor:
        """The variable."""
        return v

    def gradient(self, v: ep.Tensor, r: ep.Tensor, g: ep.Tensor) -> ep.Tensor:
        """The gradient as it is."""
        return g


@dataclass(frozen=True)
class Penalty(Free):
    """r itself, with mu sum_ij w_ij ||r^_i - r^_j||^2 in the loss, equation (14).

    Attributes:
        smoothing: Holds the graph of the originals.
        mu: Weight of the penalty, where the squared distortion has weight 1.
    """

    smoothing: GuidedSmoothing
    mu: float

    def gradient(self, v: ep.Tensor, r: ep.Tensor, g: ep.Tensor) -> ep.Tensor:
        """Add 4 mu (I - W~) r."""
        return g + 4 * self.mu * self.smoothing.roughness(r)


@dataclass(frozen=True)
class Relaxation:
    """Both r and z, with mu phi_alpha(r, z) in the loss, equation (15), at a finite mu.

    phi_alpha(r, z) = <r, (I - alpha W~) r> - (1 - alpha) (2 <z, r> - <z, z>), by (6). As z occurs
    nowhere else, the minimum over it is z = r: what is left is the penalty (14) with mu alpha / 2.
    The paper's step from here to (17) holds if r alone minimises phi for the z given.

    Attributes:
        smoothing: Holds the graph of the originals and alpha.
        mu: Weight of phi, where the squared distortion has weight 1.
    """

    smoothing: GuidedSmoothing
    mu: float

    def start(self, x: ep.Tensor) -> ep.Tensor:
        """R and z, one after the other along the batch axis."""
        return ep.concatenate([ep.zeros_like(x), ep.zeros_like(x)])

    def perturbation(self, v: ep.Tensor) -> ep.Tensor:
        """The first half of the variable."""
        return v[: len(v) // 2]

    def gradient(self, v: ep.Tensor, r: ep.Tensor, g: ep.Tensor) -> ep.Tensor:
        """Add the gradients of mu phi in r and in z."""
        z, alpha = v[len(v) // 2 :], self.smoothing.alpha
        apart = 2 * self.mu * (1 - alpha) * (r - z)
        return ep.concatenate(
            [g + apart + 2 * self.mu * alpha * self.smoothing.roughness(r), -apart]
        )
