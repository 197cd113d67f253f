"""What rounding does to a perturbation: the theory behind quantising with care."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def expected_distortion(rho: npt.ArrayLike, n: int, top: int = 255) -> npt.NDArray[np.float64]:
    """The expected squared distance after rounding a perturbation of norm rho, equations (14)-(16).

    The perturbation is uniform on the sphere of radius rho in n dimensions, in levels, and the box
    is not felt. Far below one level an element it is almost 0, as rounding undoes the perturbation;
    it crosses ``rho^2`` near ``rho^2 = .083 n``; far above it tends to ``rho^2 + n / 12``.

    The paper prints ``2 Phi(sqrt(n) c / 2)`` as the probability of ``|E| >= l`` for large n, with
    a wrong sign and factor; it is ``2 Phi(-sqrt(n) c)``. Here it is exact for every n.

    Args:
        rho: Norm of the perturbation before rounding, in levels, a number or an array.
        n: Number of elements of an image, at least 2.
        top: The largest possible change of an element, in levels.

    Returns:
        ``E(D^2)``, in squared levels, of the shape of ``rho``.

    Raises:
        ValueError: If ``rho`` is negative or not finite, or ``n`` below 2.
    """
    rho = np.asarray(rho, dtype=np.float64)
    if n < 2:
        raise ValueError(f"expected n >= 2 elements, got {n}")
    if not np.all(np.isfinite(rho) & (rho >= 0)):
        raise ValueError(f"expected rho finite and >= 0, got {rho}")
    level = np.arange(1, top + 1)
    with np.errstate(divide="ignore"):
        c = (2 * level - 1) / (2 * rho[..., None])
    # E(D^2) / n = sum of l^2 P(|E| = l) = sum of (2 l - 1) P(|E| >= l).
    squared: npt.NDArray[np.float64] = (2 * level - 1) * _outside_cap(np.minimum(c, 1.0), n)
    return np.asarray(n * squared.sum(axis=-1))


def _outside_cap(c: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    # P(|U_j| >= c rho) = 1 - I_{c^2}(1/2, (n-1)/2), by Gauss-Legendre quadrature of sin^(n-2) over
    # the angles up to arccos c. Below pi/2 - 12 / sqrt(n) nothing is left of the integrand.
    nodes, weights = np.polynomial.legendre.leggauss(64)
    upper = np.arccos(c)
    width = np.minimum(upper, 12 / math.sqrt(n))
    angles = upper[..., None] + width[..., None] * (nodes - 1) / 2
    log_density = (n - 2) * np.log(np.maximum(np.sin(angles), 1e-300))
    log_total = 0.5 * math.log(math.pi) + math.lgamma((n - 1) / 2) - math.lgamma(n / 2)
    # The two caps make up for the half of the quadrature's interval.
    return np.exp(log_density - log_total) @ weights * width
