"""Perturbations without high frequencies."""

from __future__ import annotations

import math

import torch


class LowFrequencies:
    """The projection of maps onto their lowest frequencies, by the discrete cosine transform.

    Args:
        height: Rows of the maps.
        width: Columns of the maps.
        keep: How many frequencies of each axis remain, the constant one included.

    Raises:
        ValueError: If ``keep`` is below 1.
    """

    def __init__(self, height: int, width: int, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"expected at least 1 low frequency to keep, got {keep!r}")
        self._rows, self._columns = _projector(height, keep), _projector(width, keep)

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Project maps ``(..., H, W)``; orthogonal, so that it is its own adjoint."""
        return self._rows.to(maps) @ maps @ self._columns.to(maps)


def _projector(length: int, keep: int) -> torch.Tensor:
    """The orthogonal projector ``(length, length)`` onto the first DCT-II basis vectors."""
    position = torch.arange(length, dtype=torch.float64) + 0.5
    frequency = torch.arange(min(keep, length), dtype=torch.float64)
    basis = torch.cos(math.pi / length * position[:, None] * frequency)
    basis = basis / basis.norm(dim=0)
    projector: torch.Tensor = basis @ basis.T
    return projector
