"""The Most Apparent Distortion index: how visible a distortion is, in two stages.

Detection says whether a distortion can be seen at all (HI), appearance how much it changes the
looks of the image (LO); the score blends the two, by how strong the detection is.

References:
    .. [#Lars10] Eric C. Larson, Damon M. Chandler,
       "Most apparent distortion: full-reference image quality assessment and the role of
       strategy", Journal of Electronic Imaging 19(1), 2010.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft
from scipy.ndimage import uniform_filter

from foolart.plugins.visual import (
    TILE,
    Array,
    block_moments,
    contrast_sensitivity,
    fill_tiles,
    gray,
    image_pairs,
    log_gabor_bank,
)

Version = Literal["2011", "2010-04"]

BLOCK = 16
SMALLEST = 2 * BLOCK + 2  # the crop takes 16 pixels on one side and 17 on the other
# Release of the authors' code -> factor of the detection stage. The smooth-adversarial papers ran
# the release of April 2010, which lacks the factor that the publication and later releases have.
GAIN: dict[Version, float] = {"2011": 200.0, "2010-04": 1.0}
SCALE_WEIGHTS = np.array([0.5, 0.75, 1.0, 5.0, 6.0]) / 13.25
# Pixels of either image that are worked on at once: what fits the caches of a core.
CHUNK = 2**18
# Magnitudes of a constant image are rounding noise of the order of 1e-13: no shape to measure.
FLAT = 1e-9


@dataclass(frozen=True)
class Distortion:
    """The result of :func:`mad`: floats for one pair of images, arrays ``(N,)`` for a batch.

    Attributes:
        score: The index, 0 for an invisible distortion, without upper bound. ``detection == 0``
            forces ``score == 0``: report the share of zeros, and ``appearance`` beside it.
        detection: HI, the first stage, with the factor of the chosen version.
        appearance: LO, the second stage, the same in both versions.
    """

    score: Any
    detection: Any
    appearance: Any


def mad(
    reference: npt.ArrayLike, distorted: npt.ArrayLike, *, version: Version = "2011"
) -> Distortion:
    """The Most Apparent Distortion of images with respect to their originals.

    Args:
        reference: The originals, uint8 RGB, ``(H, W, 3)`` or ``(N, H, W, 3)``; grayscale images as
            ``(H, W)``, ``(H, W, 1)`` or ``(N, H, W, 1)``, which score as three equal channels do.
            At least 34 pixels high and wide.
        distorted: The images to score, of the same shape and dtype. The index is not symmetric.
        version: ``"2011"`` has the factor 200 in the detection stage, as published; ``"2010-04"``
            is the release of April 2010 without it, which the smooth-adversarial papers report.

    Returns:
        The score and its two stages.

    Raises:
        ValueError: For another dtype, different shapes, images too small, an unknown version.

    Note:
        Two details follow the authors' code rather than the paper: lightness level 255 reads the
        entry of level 254, and blocks on the lower and right border of the cropped map take the
        least deviation over those neighbours only that lie within the crop.
    """
    if version not in GAIN:
        raise ValueError(f"expected version to be one of {sorted(GAIN)}, got {version!r}")
    ref, dst = image_pairs(reference, distorted)
    if min(ref.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"expected images of at least {SMALLEST}x{SMALLEST} pixels, got shape "
            f"{np.shape(reference)}: the index leaves out a border of 16 pixels and compares "
            "blocks of 16x16"
        )
    chunk = max(1, CHUNK // (ref.shape[1] * ref.shape[2]))
    parts = [
        (gray(ref[i : i + chunk]), gray(dst[i : i + chunk])) for i in range(0, len(ref), chunk)
    ]
    detection = GAIN[version] * np.concatenate([detectability(*part) for part in parts])
    appearance = np.concatenate([dissimilarity(*part) for part in parts])
    score = blend(detection, appearance)
    if np.ndim(reference) < 4:
        return Distortion(float(score[0]), float(detection[0]), float(appearance[0]))
    return Distortion(score, detection, appearance)


def blend(detection: npt.ArrayLike, appearance: npt.ArrayLike) -> Any:
    """The index of two stages: their geometric mean with weights alpha and 1 - alpha.

    Alpha is 1, detection alone, where little is visible, and falls to 0 where much is.
    """
    b1, b2 = np.exp(-2.55 / 3.35), 1 / (3.35 * np.log(10))
    alpha = 1 / (1 + b1 * np.asarray(detection) ** b2)
    return np.asarray(detection) ** alpha * np.asarray(appearance) ** (1 - alpha)


def detectability(reference: Array, distorted: Array) -> Array:
    """The detection stage HI without its factor: the visible share of the squared error.

    Args:
        reference: Gray values in [0, 255], ``(N, H, W)``.
        distorted: The same of the distorted images.

    Returns:
        The root mean square over the cropped image of local error times log-contrast ratio, (N,).
    """
    csf = contrast_sensitivity(*reference.shape[1:])
    lightness = _lightness(reference)
    seen = fft.ifft2(csf * fft.fft2(lightness)).real
    error = fft.ifft2(csf * fft.fft2(_lightness(distorted) - lightness)).real

    mu, _, _, _ = block_moments(seen, BLOCK)
    _, sigma_e, _, _ = block_moments(error, BLOCK)
    _, sigma_8, _, _ = block_moments(seen, BLOCK // 2)
    mu, sigma_e = _crop_tiles(mu, reference), _crop_tiles(sigma_e, reference)
    sigma_r = _least_of_four(_crop_tiles(sigma_8, reference))

    with np.errstate(divide="ignore", invalid="ignore"):
        c_r = np.log(np.sqrt(sigma_r * 64 / 63) / mu)
        c_e = np.where(mu < 0.5, -np.inf, np.log(np.sqrt(sigma_e * 256 / 255) / mu))
        beyond_masking = np.where((c_r > -5) & (c_e > c_r), c_e - c_r, 0.0)
    visible = np.where((c_r <= -5) & (c_e > -5), c_e + 5, beyond_masking)

    # An origin of -1 makes the even window reach from 7 pixels before to 8 pixels behind.
    squared = (distorted - reference) ** 2
    local = uniform_filter(squared, (0, BLOCK, BLOCK), origin=(0, -1, -1))
    height, width = reference.shape[1:]
    local = local[:, BLOCK : height - BLOCK - 1, BLOCK : width - BLOCK - 1]
    return _rms(fill_tiles(visible, local.shape[1:]) * local)


def dissimilarity(reference: Array, distorted: Array) -> Array:
    """The appearance stage LO: how much the local statistics of Gabor responses differ.

    Args:
        reference: Gray values in [0, 255], ``(N, H, W)``.
        distorted: The same of the distorted images.

    Returns:
        The root mean square over the cropped image of the weighted differences, (N,).
    """
    height, width = reference.shape[1:]
    spectrum = fft.fft2(np.stack([reference, distorted]))
    eta: Any = 0.0
    for scale, gabor in log_gabor_bank(height, width, len(SCALE_WEIGHTS)):
        magnitude = np.abs(fft.ifft2(spectrum * gabor))
        _, variance, third, fourth = block_moments(magnitude, BLOCK)
        flat = variance < FLAT**2
        safe = np.where(flat, 1.0, variance)
        for share, statistic in (
            (1, np.sqrt(variance * 256 / 255)),
            (2, np.where(flat, 0.0, third / (safe * np.sqrt(safe)))),
            (1, np.where(flat, 0.0, fourth / (safe * safe))),
        ):
            eta = eta + SCALE_WEIGHTS[scale] * share * np.abs(statistic[0] - statistic[1])
    crop = height - 2 * BLOCK - 1, width - 2 * BLOCK - 1
    return _rms(fill_tiles(_crop_tiles(eta, reference), crop))


def _crop_tiles(tiles: Array, images: Array) -> Array:
    """The tiles that meet the crop ``[16 : -17]`` of the images."""
    first = BLOCK // TILE
    bottom, right = ((side - BLOCK - 2) // TILE + 1 for side in images.shape[-2:])
    return tiles[..., first:bottom, first:right]


def _least_of_four(tiles: Array) -> Array:
    """The least of every tile and its right, lower and lower right neighbours."""
    padded = np.pad(tiles, ((0, 0), (0, 1), (0, 1)), mode="edge")
    least: Array = sliding_window_view(padded, (2, 2), axis=(-2, -1)).min(axis=(-2, -1))
    return least


def _rms(a: Array) -> Array:
    root: Array = np.sqrt(np.mean(a * a, axis=(-2, -1)))
    return root


def _lightness(gray: Array) -> Array:
    lightness: Array = 0.02874 * np.minimum(gray, 254) ** (2.2 / 3)
    return lightness
