"""Between 8-bit images on the host and float inputs on a device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from foolart.evaluation.sources import Images


def to_inputs(images: Images, device: torch.device) -> torch.Tensor:
    """8-bit images as inputs ``k / 255``, by the formula of ``foolbox.utils.samples``."""
    return torch.from_numpy(images).to(device).float() / 255


def to_pixels(inputs: torch.Tensor) -> Images:
    """Inputs in [0, 1] rounded to 8 bits."""
    levels = (inputs * 255).round().clamp(0, 255).to(torch.uint8)
    pixels: Images = levels.cpu().numpy()
    return pixels


def distances(a: Images, b: Images) -> tuple[float, float]:
    """The L2 and the L_inf distance of two 8-bit images, scaled to [0, 1]."""
    delta = a.astype(np.int64) - b.astype(np.int64)
    return math.sqrt(float((delta**2).sum())) / 255, float(np.abs(delta).max()) / 255


def check_images(found: Any, x: torch.Tensor) -> torch.Tensor:
    """What an attack returned, if it is a batch of images like the originals.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another shape.
    """
    if not isinstance(found, torch.Tensor):
        raise TypeError(f"returned {type(found).__name__} instead of a tensor of images")
    if found.shape != x.shape:
        raise ValueError(
            f"returned images of shape {tuple(found.shape)} for inputs of shape {tuple(x.shape)}"
        )
    return found.detach().to(x)
