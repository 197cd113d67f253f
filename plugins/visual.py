"""The eye's first filters, and local statistics of what they see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import fft

Array = npt.NDArray[np.float64]

TILE = 4
LUMA = np.array([0.298936, 0.587043, 0.114021])


def contrast_sensitivity(height: int, width: int) -> Array:
    """The contrast sensitivity filter ``(H, W)``, laid out as ``fft2`` lays out frequencies.

    The viewing distance makes 32 pixels a degree. As in the authors' code the frequency grid has
    its origin between four bins, and both axes are scaled by the width.
    """
    x = np.arange(width) - width / 2 + 0.5
    y = (np.arange(height) - height / 2 + 0.5)[:, None]
    f = np.hypot(x, y) * 2 * 32 / width
    f = f / (0.15 * np.cos(4 * np.arctan2(y, x)) + 0.85)
    response = 2.6 * (0.0192 + 0.114 * f) * np.exp(-((0.114 * f) ** 1.1))
    shifted: Array = fft.ifftshift(np.where(f < 7.8909, 0.9809, response))
    return shifted


def log_gabor_bank(
    height: int, width: int, scales: int, orientations: int = 4
) -> Iterator[tuple[int, Array]]:
    """Log-Gabor filters ``(H, W)`` with their scales, laid out as ``fft2`` lays out frequencies.

    The wavelength of scale s is 3 * 3**s pixels; the mean is not passed.
    """
    x = np.fft.fftfreq(width)
    y = np.fft.fftfreq(height)[:, None]
    radius, theta = np.hypot(x, y), np.arctan2(-y, x)
    radius[0, 0] = 1.0
    angles = np.arange(orientations)[:, None, None] * np.pi / orientations
    distance = np.arctan2(np.sin(theta - angles), np.cos(theta - angles))
    sigma_theta = np.pi / orientations / 1.5
    spread = np.exp(-(distance**2) / (2 * sigma_theta**2))
    spread[:, 0, 0] = 0.0
    for scale in range(scales):
        wavelength = 3 * 3**scale
        radial = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * np.log(0.55) ** 2))
        for angular in spread:
            yield scale, radial * angular


def block_moments(z: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """The mean and the second to fourth central moments of blocks at a stride of 4 pixels.

    Blocks are put together from 4x4 tiles by the parallel-axis formulas: raw moments would lose
    all digits where a response is large and nearly constant.

    Args:
        z: Values, ``(..., H, W)``; what is left of whole tiles at the lower and right is not read.
        size: The side of a block, a multiple of 4.

    Returns:
        Four arrays ``(..., (H - size) // 4 + 1, (W - size) // 4 + 1)``.
    """
    height, width = (TILE * (side // TILE) for side in z.shape[-2:])
    z = z[..., :height, :width]
    mean = _tile_mean(z)
    d = z - fill_tiles(mean, (height, width))
    d2 = d * d
    moments = mean, _tile_mean(d2), _tile_mean(d2 * d), _tile_mean(d2 * d2)
    side = size // TILE
    rows, columns = mean.shape[-2] - side + 1, mean.shape[-1] - side + 1
    tiles = [
        [m[..., i : i + rows, j : j + columns] for m in moments]
        for i in range(side)
        for j in range(side)
    ]
    mu, second, third, fourth = np.zeros((4, *mean.shape[:-2], rows, columns))
    for m1, *_ in tiles:
        mu += m1 / len(tiles)
    for m1, m2, m3, m4 in tiles:
        d = m1 - mu
        d2 = d * d
        second += m2 + d2
        third += m3 + d * (3 * m2 + d2)
        fourth += m4 + 4 * d * m3 + d2 * (6 * m2 + d2)
    return mu, second / len(tiles), third / len(tiles), fourth / len(tiles)


def _tile_mean(z: Array) -> Array:
    rows = z[..., 0::4, :] + z[..., 1::4, :] + z[..., 2::4, :] + z[..., 3::4, :]
    total = rows[..., 0::4] + rows[..., 1::4] + rows[..., 2::4] + rows[..., 3::4]
    mean: Array = total / TILE**2
    return mean


def fill_tiles(tiles: Array, shape: tuple[int, int]) -> Array:
    """Repeat every value over its 4x4 tile, cut to a shape of pixels."""
    filled = np.repeat(np.repeat(tiles, TILE, axis=-1), TILE, axis=-2)
    return filled[..., : shape[0], : shape[1]]


def gray(images: npt.NDArray[np.uint8]) -> Array:
    """The gray values ``(N, H, W)`` of images ``(N, H, W, 1 or 3)``, whole numbers in [0, 255]."""
    if images.shape[-1] == 1:
        return images[..., 0].astype(np.float64)
    values: Array = np.rint(images @ LUMA)
    return values


def image_pairs(
    reference: npt.ArrayLike, distorted: npt.ArrayLike
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Check originals and distorted images, and give both the shape ``(N, H, W, 1 or 3)``.

    Args:
        reference: uint8 images, ``(H, W, 3)`` or ``(N, H, W, 3)``; grayscale ones as ``(H, W)``,
            ``(H, W, 1)`` or ``(N, H, W, 1)``.
        distorted: The same number of images of the same shape.

    Raises:
        ValueError: Naming the argument, what was given, and what is accepted.
    """
    ref, dst = _images("reference", reference), _images("distorted", distorted)
    if np.shape(reference) != np.shape(distorted):
        raise ValueError(
            "expected reference and distorted images of the same shape, got "
            f"{np.shape(reference)} and {np.shape(distorted)}"
        )
    return ref, dst


def _images(name: str, images: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise ValueError(
            f"expected {name} images of dtype uint8, got {array.dtype}: scores are defined on "
            "digital images; for values in [0, 1] pass np.rint(255 * images).astype(np.uint8)"
        )
    shape = array.shape
    if array.ndim == 2:
        array = array[None, ..., None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or len(array) == 0:
        raise ValueError(
            f"expected at least one {name} image, of shape (H, W, 3) or (N, H, W, 3), or with one "
            f"channel for grayscale, got {shape}: channels come last, and batches of grayscale "
            "images need their channel axis"
        )
    return array
