"""Preprocessors with known values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch


class Rounded(torch.autograd.Function):
    """Round, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


class Native(PreprocessorPyTorch):
    """A PyTorch preprocessor on the CPU."""

    def __init__(self) -> None:
        super().__init__(device_type="cpu", is_fitted=True)


class Squared(Native):
    """Differentiable: x**2."""

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        return x**2, y


class Rounding(Native):
    """A rounding whose gradient is zero."""

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        return (x * 2).round() / 2, y


class StraightThrough(Native):
    """A rounding with a straight-through gradient inside forward."""

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        return Rounded.apply(x * 2) / 2, y


class MirroredStraightThrough(Native):
    """A mirror and a rounding with a straight-through gradient."""

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        return Rounded.apply(x.flip(-1) * 8) / 8, y


class RoundingWithEstimate(Rounding):
    """A rounding that defines its approximation for the backward pass: 3 x."""

    def estimate_forward(self, x: torch.Tensor, y: Any = None) -> torch.Tensor:
        return 3 * x


class Detached(Native):
    """A preprocessor that leaves the graph."""

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        return x.detach(), y


class Halved(Preprocessor):
    """A NumPy preprocessor with its gradient, which promotes to float64."""

    def __call__(self, x: np.ndarray, y: Any = None) -> tuple[np.ndarray, Any]:
        return x.astype(np.float64) * 0.5, y

    def estimate_gradient(self, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
        return grad * 0.5


class Blind(Halved):
    """A NumPy preprocessor that estimates a zero gradient."""

    def estimate_gradient(self, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
        return np.zeros_like(grad)


def gradient(model: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient of the mean cross-entropy in the images."""
    x = torch.from_numpy(images).requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(x), torch.from_numpy(labels))
    return torch.autograd.grad(loss, x)[0].numpy()
