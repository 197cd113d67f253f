"""Cutting maps into slices and patches, and putting patches together again."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F

from foolart.plugins.codebook import Shape


def patches_of(x: torch.Tensor, shape: Shape, stride: tuple[int, int]) -> torch.Tensor:
    """The patches of maps ``(B, D, H, W)``: ``(m, B L, d * height * width)``, m = D / d slices.

    Patches follow each other image by image, row by row; their values by channel, row, column.

    Raises:
        ValueError: If d does not divide D, or the map is smaller than a patch.
    """
    check_map(x, shape)
    depth, height, width = shape
    slices = x.reshape(x.shape[0], x.shape[1] // depth, depth, *x.shape[2:])
    windows = slices.unfold(3, height, stride[0]).unfold(4, width, stride[1])
    patches = windows.permute(1, 0, 3, 4, 2, 5, 6)
    return patches.reshape(patches.shape[0], -1, depth * height * width)


def tile(patches: torch.Tensor, like: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Put patches that do not overlap back in their places."""
    depth, height, width = shape
    batch, _, rows, columns = like.shape
    grid = patches.reshape(-1, batch, rows // height, columns // width, depth, height, width)
    return grid.permute(1, 0, 4, 2, 5, 3, 6).reshape(like.shape)


def average(
    patches: torch.Tensor, like: torch.Tensor, stride: tuple[int, int], weights: torch.Tensor
) -> torch.Tensor:
    """fold(w P) / fold(w), of the shape of ``like``."""
    m, _, length = patches.shape
    batch, _, rows, columns = like.shape
    w = weights.reshape(length, 1)
    columns_of = patches.reshape(m, batch, -1, length).permute(1, 0, 3, 2)
    columns_of = columns_of.reshape(batch * m, length, -1) * w
    size, kernel = (rows, columns), tuple(weights.shape[1:])
    total = F.fold(columns_of, size, kernel, stride=stride).reshape(like.shape)
    ones = w[: kernel[0] * kernel[1]].expand(-1, columns_of.shape[-1])[None]
    return total / F.fold(ones, size, kernel, stride=stride)


def check_map(x: torch.Tensor, shape: Shape) -> None:
    """Refuse maps that cannot be cut into patches of a shape.

    Raises:
        ValueError: If the depth does not divide the channels or the map is smaller than a patch.
    """
    depth, height, width = shape
    if x.shape[1] % depth:
        raise ValueError(
            f"expected a depth that divides the {x.shape[1]} channels of the map, got {depth}"
        )
    if x.shape[2] < height or x.shape[3] < width:
        raise ValueError(
            f"expected maps of at least {height} x {width}, one patch, got {x.shape[2]} x "
            f"{x.shape[3]}"
        )


def check_stride(stride: Any, side: tuple[int, int]) -> None:
    """Refuse a stride that leaves holes between patches.

    Raises:
        ValueError: If the stride is no integer, below 1 or above a side of the patches.
    """
    if stride is None:
        return
    if not isinstance(stride, Integral) or not 1 <= int(stride) <= min(side):
        raise ValueError(
            f"expected an integer stride from 1 to {min(side)}, the side of a patch (above, values "
            f"between patches would not be covered), got {stride!r}"
        )
