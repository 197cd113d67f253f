"""Adversarial magnification: show what a single image hides, without its original beside it.

References:
    .. [#Zhan20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg,
       "Smooth adversarial examples", EURASIP Journal on Information Security, 2020, Appendix 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import eagerpy as ep
import numpy as np

T = TypeVar("T")
Pair = tuple[Any, Any, Any]

# The window ends where a Gaussian's two tails hold 2 % of its mass.
TAIL = 2.326
# Elements of the images that are worked on at once, of which a few copies are held: what fits the
# caches of a core, and what keeps a GPU busy.
CHUNK_CPU = 2**18
CHUNK_GPU = 2**24


def magnify(
    images: T, *, domain_sigma: float = 5.0, range_sigma: float = 0.2, beta: float = 0.8
) -> T:
    """Local normalization of images (eq. 22): what deviates from its surroundings, magnified.

    ``mag(x) = (x - mu_x) / (beta sigma_x + (1 - beta) sigma_Omega)``, where the local mean mu_x is
    the bilateral filter of x, sigma_x the square root of the bilateral filter of ``(x - mu_x)**2``
    guided by x, and sigma_Omega the standard deviation of the channel. Filters are applied per
    channel; the range kernel looks at the distance of colours.

    Args:
        images: Images ``(N, C, H, W)`` with values in [0, 1], float. PyTorch tensors are worked on
            where they are; others in NumPy.
        domain_sigma: Standard deviation of the kernel on positions, in pixels. Windows reach
            ``ceil(2.326 domain_sigma)`` pixels to every side and end at the border of the image.
        range_sigma: Standard deviation of the kernel on colours, Euclidean in [0, 1]^C.
        beta: Share of the local deviation in the denominator, in [0, 1].

    Returns:
        Magnified images of the same shape, framework and dtype (half precision is computed in
        ``float32``): around 0, mostly within [-2, 2], and 0 where a window is constant.

    Raises:
        ValueError: For images of another shape, dtype or range, or parameters out of range.

    Note:
        Two deviations from the print: the exponent of sigma_x is 1/2 (it says -1/2), and the range
        kernel's standard deviation is 0.2 on [0, 1] (it says 5, which would be no range kernel).
    """
    _check(domain_sigma, range_sigma, beta)
    x = ep.astensor(images)
    _check_images(x)
    if isinstance(x, ep.PyTorchTensor):
        return _magnify_torch(x.raw, domain_sigma, range_sigma, beta)  # type: ignore[no-any-return]
    raw = x.numpy()
    wide = raw.astype(np.promote_types(raw.dtype, np.float32))
    magnified = _magnify(wide, domain_sigma, range_sigma, beta, np.exp, CHUNK_CPU)
    return ep.from_numpy(x, magnified.astype(raw.dtype)).raw  # type: ignore[no-any-return]


def _magnify_torch(images: Any, domain_sigma: float, range_sigma: float, beta: float) -> Any:
    import torch

    chunk = CHUNK_CPU if images.device.type == "cpu" else CHUNK_GPU
    wide = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    magnified = _magnify(wide, domain_sigma, range_sigma, beta, torch.exp, chunk)
    return magnified.to(images.dtype)


def _magnify(
    images: Any,
    domain_sigma: float,
    range_sigma: float,
    beta: float,
    exp: Callable[[Any], Any],
    chunk: int,
) -> Any:
    step = max(1, chunk // math.prod(images.shape[1:]))
    magnified = images * 0
    for start in range(0, len(images), step):
        x = images[start : start + step]
        pairs = partial(_pairs, x, domain_sigma, range_sigma, exp)
        detail, sigma_x = _detail_and_deviation(x, pairs)
        sigma_omega = ((x - x.mean((2, 3), keepdims=True)) ** 2).mean((2, 3), keepdims=True) ** 0.5
        scale = beta * sigma_x + (1 - beta) * sigma_omega
        scale[scale == 0] = 1
        magnified[start : start + step] = detail / scale
    return magnified


def _detail_and_deviation(x: Any, pairs: Callable[[], Iterator[Pair]]) -> tuple[Any, Any]:
    """``x - mu_x`` and ``sigma_x``, both exactly 0 where a window is constant."""
    detail, mass = x * 0, x[:, :1] * 0 + 1
    for p, q, weight in pairs():
        mass[p] += weight
        mass[q] += weight
        flow = weight * (x[p] - x[q])
        detail[p] += flow
        detail[q] -= flow
    detail /= mass

    # Weights are computed twice: kept, they would take 300 times the memory of the images.
    squares = detail**2
    variance = squares + 0
    for p, q, weight in pairs():
        variance[p] += weight * squares[q]
        variance[q] += weight * squares[p]
    return detail, (variance / mass) ** 0.5


def _pairs(
    x: Any, domain_sigma: float, range_sigma: float, exp: Callable[[Any], Any]
) -> Iterator[Pair]:
    """Every pair of neighbours once: where p lies, where q lies, their weights (N, 1, h, w)."""
    height, width = x.shape[2:]
    reach = math.ceil(TAIL * domain_sigma)
    across = min(reach, width - 1)
    for dy in range(min(reach, height - 1) + 1):
        for dx in range(-across if dy else 1, across + 1):
            p = np.s_[:, :, : height - dy, max(-dx, 0) : width - max(dx, 0)]
            q = np.s_[:, :, dy:, max(dx, 0) : width - max(-dx, 0)]
            exponent = ((x[q] - x[p]) ** 2).sum(1, keepdims=True) / (-2 * range_sigma**2)
            yield p, q, exp(exponent - (dy**2 + dx**2) / (2 * domain_sigma**2))


def _check(domain_sigma: float, range_sigma: float, beta: float) -> None:
    for name, value in (("domain_sigma", domain_sigma), ("range_sigma", range_sigma)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"expected {name} to be finite and > 0, got {value!r}")
    if not 0 <= beta <= 1:
        raise ValueError(f"expected beta to be in [0, 1], got {beta!r}")


def _check_images(x: ep.Tensor) -> None:
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"expected images of shape (N, C, H, W), got {tuple(x.shape)}")
    if "float" not in str(x.dtype):
        raise ValueError(f"expected images of a float dtype, got {x.dtype}: divide uint8 by 255")
    if not (x.min().item() >= 0 and x.max().item() <= 1):
        raise ValueError(
            f"expected images in [0, 1], got values from {x.min().item()} to {x.max().item()}"
        )
