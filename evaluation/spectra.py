"""``foolart spectra``: what an attack adds to feature maps, BlurNet's figures 1 to 3."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

from foolart.adapters.foolbox.defended_model import network_of
from foolart.adapters.weights import write_bytes
from foolart.evaluation.files import Files, Picture
from foolart.evaluation.inspection import activations
from foolart.evaluation.models import DEFAULT_MODEL, load_model
from foolart.evaluation.specs import Spec
from foolart.plugins.blurnet import Blur
from foolart.plugins.features import first_convolution

Spectrum = npt.NDArray[np.float64]
STRONGEST = 4


def log_spectrum(maps: torch.Tensor) -> Spectrum:
    """``log(1 + |FFT|)`` of maps ``(..., H, W)``, the constant in the middle."""
    transformed = torch.fft.fftshift(torch.fft.fft2(maps.double()), dim=(-2, -1))
    spectrum: Spectrum = torch.log1p(transformed.abs()).cpu().numpy()
    return spectrum


def spectra(
    clean: torch.Tensor, attacked: torch.Tensor | None = None, size: int = 5
) -> dict[str, Spectrum]:
    """Spectra of feature maps: clean, attacked, their difference, and that blurred.

    Args:
        clean: The maps of one image, ``(1, K, H, W)``.
        attacked: Those of the same image, attacked; None for the clean ones alone, as in figure 3.
        size: Of the box blur.

    Returns:
        ``clean``, ``attacked``, ``difference`` and ``blurred``, each ``(K, H, W)``. The difference
        is that of the maps before the transform, which shows what the attack added; the paper's is
        that of the logarithms, in which what it added to a large value vanishes.

    Raises:
        ValueError: If the maps differ in shape, or are no maps.
    """
    if clean.ndim != 4 or len(clean) != 1:
        raise ValueError(f"expected feature maps (1, K, H, W), got shape {tuple(clean.shape)}")
    shown = {"clean": clean}
    if attacked is not None:
        if clean.shape != attacked.shape:
            raise ValueError(
                "expected clean and attacked maps of the same shape, got "
                f"{tuple(clean.shape)} and {tuple(attacked.shape)}"
            )
        added = attacked - clean
        shown |= {"attacked": attacked, "difference": added, "blurred": Blur(size).to(added)(added)}
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
    figure = _figure()(figsize=(2 * len(found), 2 * len(channels)), layout="constrained")
    axes = figure.subplots(len(channels), len(found), squeeze=False)
    for row, channel in zip(axes, channels, strict=True):
        # One scale a row: what is darker than the clean spectrum is weaker.
        top = max(spectrum[channel].max() for spectrum in found.values())
        for axis, (name, spectrum) in zip(row, found.items(), strict=True):
            axis.imshow(spectrum[channel], vmin=0, vmax=top)
            axis.set_title(f"{name}, {channel}", fontsize=8)
            axis.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format=out.suffix[1:] or "png", dpi=120)
    write_bytes(stream.getvalue(), out)
    return out


def spectra_command(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="The clean image, then the attacked.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The figure, e.g. spectra.png.")],
    model: Annotated[str, typer.Option(help="See `foolart list models`.")] = DEFAULT_MODEL,
    layer: Annotated[
        str | None,
        typer.Option(help='Whose maps; "input" for the image, the first convolution by default.'),
    ] = None,
    maps: Annotated[
        list[int] | None,
        typer.Option("--map", help="A feature map; repeat for more. By default the strongest 4."),
    ] = None,
    size: Annotated[int, typer.Option(help="Kernel of the blur.")] = 5,
    gray: Annotated[bool, typer.Option("--gray", help="Read the images as gray ones.")] = False,
) -> None:
    """Plot what an attack adds to the spectra of feature maps (figures 1 to 3 of BlurNet)."""
    if len(images) > 2:
        raise ValueError(f"expected a clean image and an attacked one, got {len(images)} images")
    _check_format(out)
    loaded = load_model(Spec.of(model, "model")).foolbox
    where = first_convolution(network_of(loaded)) if layer is None else layer
    found = [_maps(loaded, where, path, gray) for path in images]
    shown = spectra(found[0], found[1] if len(found) > 1 else None, size)
    if maps is None:
        # By what the attack added, or by what is there.
        energy = (found[-1] - found[0] if len(found) > 1 else found[0])[0].square().sum((1, 2))
        maps = sorted(energy.argsort(descending=True)[:STRONGEST].tolist())
    plot_spectra(shown, maps, out)
    values = dict(zip(("clean", "attacked"), found, strict=False))
    if len(found) > 1:
        values["difference"] = found[1] - found[0]
    shares = (f"{name} {100 * high_frequency_share(v)[0]:.0f} %" for name, v in values.items())
    typer.echo(f"energy beyond half the Nyquist frequency at {where}: {', '.join(shares)}")
    typer.echo(f"wrote {out}")


def _check_format(out: Path) -> None:
    known = _figure()(figsize=(1, 1)).canvas.get_supported_filetypes()
    if out.suffix[1:] not in known:
        raise ValueError(f"{out}: expected a name that ends in one of .{', .'.join(sorted(known))}")


def _maps(model: Any, layer: str, path: Path, gray: bool) -> torch.Tensor:
    if not path.is_file():
        raise ValueError(f"image {path} does not exist (working directory: {Path.cwd()})")
    picture = Picture(mode="L" if gray else "RGB")
    pixels = Files([path], np.zeros(1, np.int64), picture).images(0, 1)
    x = torch.tensor(pixels).float() / 255
    try:
        maps = activations(model, x, [layer])[0][layer]
    except RuntimeError as error:
        raise ValueError(
            f"the network does not take image {path} of shape {tuple(x.shape[1:])}: {error}"
        ) from error
    if maps.ndim != 4:
        raise ValueError(
            f"expected layer {layer!r} to return feature maps (N, K, H, W), got shape "
            f"{tuple(maps.shape)}: name a convolutional layer"
        )
    return maps


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'plots need matplotlib: pip install "foolart[eval]" ({error})'
        ) from error
    return Figure
