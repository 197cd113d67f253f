"""The spectral view of BlurNet's figures 1 to 3: what an attack adds to feature maps."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from foolart.adapters.weights import write_bytes
from foolart.plugins.blurnet import Blur
from foolart.plugins.features import feature_maps

Spectrum = npt.NDArray[np.float64]


def log_spectrum(maps: torch.Tensor) -> Spectrum:
    """``log(1 + |FFT|)`` of maps ``(..., H, W)``, the constant in the middle."""
    transformed = torch.fft.fftshift(torch.fft.fft2(maps.double()), dim=(-2, -1))
    spectrum: Spectrum = torch.log1p(transformed.abs()).cpu().numpy()
    return spectrum


def spectra(
    network: nn.Module, layer: str, clean: torch.Tensor, attacked: torch.Tensor, size: int = 5
) -> dict[str, Spectrum]:
    """Spectra of a layer's feature maps: clean, attacked, their difference, and that blurred.

    Args:
        network: The network.
        layer: A layer that returns feature maps.
        clean: One image, ``(1, C, H, W)``, as the network takes it.
        attacked: The same image, attacked.
        size: Of the box blur.

    Returns:
        ``clean``, ``attacked``, ``difference`` and ``blurred``, each ``(K, H, W)``. The difference
        is that of the maps, before the transform.

    Raises:
        ValueError: If the images differ in shape, or the layer returns no feature maps.
    """
    if clean.shape != attacked.shape or len(clean) != 1:
        raise ValueError(
            "expected one clean and one attacked image of the same shape, got "
            f"{tuple(clean.shape)} and {tuple(attacked.shape)}"
        )
    with torch.no_grad():
        before, after = (feature_maps(network, layer, x) for x in (clean, attacked))
        shown = {
            "clean": before,
            "attacked": after,
            "difference": after - before,
            "blurred": Blur(size).to(before)(after - before),
        }
    return {name: log_spectrum(maps[0]) for name, maps in shown.items()}


def high_frequency_share(maps: torch.Tensor) -> npt.NDArray[np.float64]:
    """The share of the energy of maps ``(N, K, H, W)`` beyond half the Nyquist frequency, (N,).

    The constant is left out.
    """
    energy = torch.fft.fft2(maps.double()).abs() ** 2
    energy[..., 0, 0] = 0
    y, x = (torch.fft.fftfreq(side, device=maps.device).abs() for side in maps.shape[-2:])
    high = torch.maximum(y[:, None], x[None]) > 0.25
    total = energy.sum((1, 2, 3)).clamp(min=torch.finfo(torch.float64).tiny)
    share: npt.NDArray[np.float64] = ((energy * high).sum((1, 2, 3)) / total).cpu().numpy()
    return share


def plot_spectra(found: Mapping[str, Spectrum], channels: list[int], out: Path) -> Path:
    """Write a figure: a row for each chosen feature map, a column for each spectrum.

    Args:
        found: What :func:`spectra` returned.
        channels: The feature maps to show.
        out: The file, in a format that matplotlib knows.

    Raises:
        ValueError: If a feature map does not exist.
        ImportError: Without matplotlib.
    """
    count = len(next(iter(found.values())))
    if not channels or not all(0 <= channel < count for channel in channels):
        raise ValueError(f"expected feature maps from 0 to {count - 1}, got {channels}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'plots need matplotlib: pip install "foolart[eval]" ({error})'
        ) from error
    figure = Figure(figsize=(2 * len(found), 2 * len(channels)), layout="constrained")
    axes = figure.subplots(len(channels), len(found), squeeze=False)
    for row, channel in zip(axes, channels, strict=True):
        # One scale a row: what is darker than the clean spectrum is weaker.
        top = max(spectrum[channel].max() for spectrum in found.values())
        for axis, (name, spectrum) in zip(row, found.items(), strict=True):
            axis.imshow(spectrum[channel], vmin=0, vmax=top)
            axis.set_title(f"{name}, map {channel}", fontsize=8)
            axis.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format=out.suffix[1:] or "png", dpi=120)
    write_bytes(stream.getvalue(), out)
    return out
