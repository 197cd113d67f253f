"""Where on an image a change is seen."""

from __future__ import annotations

import math

import eagerpy as ep

from .gradients import atleast_kd


def noise_visibility(original: ep.Tensor, channel_axis: int = 1, depth: float = 75.0) -> ep.Tensor:
    """Weights for a distortion that are high on flat areas, where a change of +-1 shows.

    The noise visibility function of [#Vol99]_, ``1 / (1 + depth * variance / largest variance)``,
    with the variance of 3x3 windows of each channel, cut at the borders: 1 where the image is flat,
    1 / (1 + depth) on its busiest texture.

    Args:
        original: Images ``(N, C, H, W)`` or ``(N, H, W, C)``, in [0, 1].
        channel_axis: The axis of the channels: 1, or 3 or -1.
        depth: Contrast of the weights, 50 to 100 in [#Vol99]_.

    Returns:
        Weights in (0, 1], of the shape of ``original``.

    Raises:
        ValueError: If ``original`` is no batch of images, or ``depth`` is negative.

    References:
        .. [#Vol99] Sviatoslav Voloshynovskiy, Alexander Herrigel, Nazanin Baumgaertner, Thierry
            Pun, "A Stochastic Approach to Content Adaptive Digital Image Watermarking", IH 1999.
    """
    if original.ndim != 4:
        raise ValueError(f"expected images (N, C, H, W) or (N, H, W, C), got {original.shape}")
    if not depth >= 0:
        raise ValueError(f"expected depth >= 0, got {depth}")
    rows, columns = (2, 3) if channel_axis == 1 else (1, 2)
    # Centring first keeps the difference of squares below from cancelling in float32.
    centred = original - original.mean(axis=(rows, columns), keepdims=True)
    variance = _box_mean(centred.square(), rows, columns)
    variance = (variance - _box_mean(centred, rows, columns).square()).clip(0, math.inf)
    largest = variance.reshape((len(original), -1)).max(axis=-1)
    # Less than a fortieth of an 8-bit level is noise of the constant images, not their texture.
    return 1 / (1 + variance * (depth / ep.maximum(atleast_kd(largest, 4), 1e-8)))


def _box_mean(images: ep.Tensor, rows: int, columns: int) -> ep.Tensor:
    total, count = images, ep.ones_like(images)
    for axis in (rows, columns):
        total, count = (_window_sum(t, axis) for t in (total, count))
    return total / count


def _window_sum(images: ep.Tensor, axis: int) -> ep.Tensor:
    padding = tuple((1, 1) if a == axis else (0, 0) for a in range(4))
    padded = images.pad(padding, mode="constant", value=0)

    def shifted(start: int) -> ep.Tensor:
        stop = start + images.shape[axis]
        return padded[tuple(slice(start, stop) if a == axis else slice(None) for a in range(4))]

    return shifted(0) + shifted(1) + shifted(2)
