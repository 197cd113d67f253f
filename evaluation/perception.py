"""Perceptual scores of 8-bit images with respect to their originals.

Every function takes uint8 images, ``(N, H, W, 3)`` or one ``(H, W, 3)``, grayscale ones with one
channel or as ``(H, W)``, and returns one value an image: an array ``(N,)``, or a float for one.

References:
    .. [#Wang04] Zhou Wang, Alan C. Bovik, Hamid R. Sheikh, Eero P. Simoncelli, "Image quality
       assessment: from error visibility to structural similarity", IEEE TIP 13(4), 2004.
    .. [#Volo99] Sviatoslav Voloshynovskiy, Alexander Herrigel, Nazanin Baumgaertner, Thierry Pun,
       "A stochastic approach to content adaptive digital image watermarking", Information
       Hiding, 1999.
    .. [#Zhan18] Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman, Oliver Wang, "The
       unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from foolart.plugins.mad import GAIN, SMALLEST, Distortion, blend, mad
from foolart.plugins.visual import gray, image_pairs

__all__ = ["Distortion", "ciede2000", "lpips", "mad", "psnr", "scores", "ssim", "wpsnr"]

Scores = dict[str, npt.NDArray[np.float64]]

# The window of SSIM: a Gaussian of standard deviation 1.5, cut at 3.5 standard deviations.
SMALLEST_SSIM = 11
# The strength of texture masking in wPSNR, the middle of the authors' range of 50 to 100.
NVF_STRENGTH = 75.0


def ssim(reference: npt.ArrayLike, distorted: npt.ArrayLike) -> Any:
    """Structural similarity [#Wang04]_ with its authors' Gaussian window; 1 for equal images.

    Raises:
        ValueError: If images do not fit together or are below 11x11 pixels.
        ImportError: Without scikit-image.
    """
    similarity = _skimage("metrics").structural_similarity
    ref, dst = image_pairs(reference, distorted)
    if min(ref.shape[1:3]) < SMALLEST_SSIM:
        raise ValueError(
            f"expected images of at least {SMALLEST_SSIM}x{SMALLEST_SSIM} pixels, the window of "
            f"SSIM, got shape {np.shape(reference)}"
        )
    values = [
        similarity(
            x,
            y,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(ref, dst, strict=True)
    ]
    return _like(reference, values)


def psnr(reference: npt.ArrayLike, distorted: npt.ArrayLike) -> Any:
    """Peak signal-to-noise ratio in decibels, over all channels; infinite for equal images."""
    ref, dst = image_pairs(reference, distorted)
    return _like(reference, _decibels((ref.astype(np.float64) - dst) ** 2))


def wpsnr(reference: npt.ArrayLike, distorted: npt.ArrayLike) -> Any:
    """Weighted PSNR in decibels: errors in the texture of the original count less.

    Errors are multiplied by the noise visibility function [#Volo99]_ of the original's gray values,
    ``1 / (1 + 75 v / max v)``, v the variance in 3x3 windows. On flat images it is the PSNR.
    """
    ref, dst = image_pairs(reference, distorted)
    luma = gray(ref)
    luma -= luma.mean((1, 2), keepdims=True)
    variance = uniform_filter(luma**2, (0, 3, 3)) - uniform_filter(luma, (0, 3, 3)) ** 2
    variance = np.maximum(variance, 0)
    largest = variance.max((1, 2), keepdims=True)
    visibility = 1 / (1 + NVF_STRENGTH * variance / np.where(largest > 0, largest, 1))
    return _like(
        reference, _decibels((visibility[..., None] * (ref.astype(np.float64) - dst)) ** 2)
    )


def ciede2000(reference: npt.ArrayLike, distorted: npt.ArrayLike) -> Any:
    """The mean colour difference CIEDE2000 over pixels; 1 is just noticeable on large areas.

    Raises:
        ImportError: Without scikit-image.
    """
    color = _skimage("color")
    ref, dst = (np.broadcast_to(z, (*z.shape[:3], 3)) for z in image_pairs(reference, distorted))
    difference = color.deltaE_ciede2000(color.rgb2lab(ref), color.rgb2lab(dst))
    return _like(reference, difference.mean((1, 2)))


def lpips(reference: npt.ArrayLike, distorted: npt.ArrayLike, *, net: str = "alex") -> Any:
    """Learned perceptual similarity [#Zhan18]_, from the package ``lpips``; 0 for equal images.

    Args:
        reference: The originals.
        distorted: The images to score.
        net: The network whose features are compared, ``"alex"``, ``"vgg"`` or ``"squeeze"``. Its
            weights may be downloaded at first use.

    Raises:
        ImportError: Without the package ``lpips``.
    """
    try:
        distance = _lpips(net)
    except ImportError as error:
        raise ImportError(f"LPIPS needs its package: pip install lpips ({error})") from error
    import torch

    ref, dst = (
        torch.from_numpy(np.broadcast_to(z, (*z.shape[:3], 3)) / np.float32(127.5) - 1)
        for z in image_pairs(reference, distorted)
    )
    with torch.no_grad():
        values = [
            distance(x[None].permute(0, 3, 1, 2), y[None].permute(0, 3, 1, 2)).item()
            for x, y in zip(ref, dst, strict=True)
        ]
    return _like(reference, values)


def scores(
    reference: npt.ArrayLike, distorted: npt.ArrayLike, metrics: Iterable[str] | None = None
) -> Scores:
    """Score images with several metrics at once.

    Args:
        reference: The originals, uint8, ``(N, H, W, 3)`` or one ``(H, W, 3)``; or grayscale.
        distorted: The images to score, of the same shape.
        metrics: Some of ``"mad"``, ``"ssim"``, ``"psnr"``, ``"wpsnr"``, ``"ciede2000"`` and
            ``"lpips"``. By default all but LPIPS, as far as the images are large enough.

    Returns:
        One array ``(N,)`` a name. MAD comes as ``mad`` (2011), ``mad_2010`` (the release of April
        2010) and its stages ``mad_detection`` (2011) and ``mad_appearance``.

    Raises:
        ValueError: For an unknown metric, or images that do not fit together or a named metric.
        ImportError: If the package of a metric is missing.
    """
    ref, dst = image_pairs(reference, distorted)
    least = min(ref.shape[1:3])
    if metrics is None:
        needed = {"mad": SMALLEST, "ssim": SMALLEST_SSIM, "psnr": 1, "wpsnr": 1, "ciede2000": 1}
        metrics = [name for name, side in needed.items() if least >= side]
    values: Scores = {}
    for name in check_metrics(metrics):
        values.update(_mad(ref, dst) if name == "mad" else {name: METRICS[name](ref, dst)})
    return values


def check_metrics(names: Iterable[str]) -> list[str]:
    """The names of metrics, if :func:`scores` knows them all.

    Raises:
        ValueError: For an unknown one.
    """
    found = list(names)
    for name in found:
        if name != "mad" and name not in METRICS:
            raise ValueError(f"unknown metric {name!r}: expected some of {['mad', *METRICS]}")
    return found


METRICS: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Any]] = {
    "ssim": ssim,
    "psnr": psnr,
    "wpsnr": wpsnr,
    "ciede2000": ciede2000,
    "lpips": lpips,
}


def _mad(reference: npt.NDArray[np.uint8], distorted: npt.NDArray[np.uint8]) -> Scores:
    result = mad(reference, distorted)
    return {
        "mad": result.score,
        "mad_2010": blend(result.detection * GAIN["2010-04"] / GAIN["2011"], result.appearance),
        "mad_detection": result.detection,
        "mad_appearance": result.appearance,
    }


def _like(reference: npt.ArrayLike, values: Any) -> Any:
    """An array for a batch, a float for a single image."""
    array = np.asarray(values, dtype=np.float64)
    return array if np.ndim(reference) == 4 else float(array[0])


def _decibels(squared_error: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        decibels: npt.NDArray[np.float64] = 10 * np.log10(255**2 / squared_error.mean((1, 2, 3)))
    return decibels


def _skimage(module: str) -> Any:
    try:
        return importlib.import_module(f"skimage.{module}")
    except ImportError as error:
        raise ImportError(
            f'this score needs scikit-image: pip install "foolart[eval]" ({error})'
        ) from error


@lru_cache(maxsize=3)
def _lpips(net: str) -> Any:
    return importlib.import_module("lpips").LPIPS(net=net, verbose=False).eval()
