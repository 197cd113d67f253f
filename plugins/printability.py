"""Colours that a printer can make, and how far a sticker is from them.

References:
    .. [#Shar16] Mahmood Sharif, Sruti Bhagavatula, Lujo Bauer, Michael K. Reiter, "Accessorize to a
       crime: real and stealthy attacks on state-of-the-art face recognition", ACM CCS 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# Squared distances below this count as a colour that is met: the square root of the smallest
# distance has no derivative.
MET = 1e-12


def printable_palette(colours: Any) -> torch.Tensor:
    """Check a palette.

    Args:
        colours: RGB triplets in [0, 1], ``(K, 3)`` with K >= 1.

    Raises:
        ValueError: For another shape or range.
    """
    palette = torch.as_tensor(np.array(colours, dtype=np.float32))
    if palette.ndim != 2 or palette.shape[1] != 3 or len(palette) == 0:
        raise ValueError(
            "expected printable colours as at least one RGB triplet, (K, 3), got shape "
            f"{tuple(palette.shape)}"
        )
    if not bool(((palette >= 0) & (palette <= 1)).all()):
        raise ValueError(
            "expected printable colours in [0, 1], got values from "
            f"{palette.min().item():g} to {palette.max().item():g}: divide 8-bit colours by 255"
        )
    return palette


def log_non_printability(pixels: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    """The logarithm of ``prod_p' |p - p'|`` over the palette, for every pixel p.

    Products of thirty distances underflow long before their logarithms lose a digit.

    Args:
        pixels: Colours, ``(..., 3, H, W)``, on the scale [0, 1].
        palette: Printable colours, ``(K, 3)``.

    Returns:
        ``(..., H, W)``.
    """
    difference = pixels.unsqueeze(-4) - palette[:, :, None, None].to(pixels)
    return 0.5 * torch.log((difference**2).sum(-3) + MET).sum(-3)


def non_printability(
    pixels: torch.Tensor, mask: torch.Tensor, palette: torch.Tensor
) -> torch.Tensor:
    """The non-printability score of stickers [#Shar16]_, sum over pixels of product over colours.

    Args:
        pixels: Colours, ``(N, 3, H, W)``, on the scale [0, 1].
        mask: 1 where the sticker is, ``(N or 1, 1, H, W)``.
        palette: Printable colours, ``(K, 3)``.

    Returns:
        ``(N,)``: 0 for stickers of printable colours only, up to rounding.
    """
    return (mask[:, 0] * log_non_printability(pixels, palette).exp()).sum((-2, -1))
