"""Weights of the elements in a distortion, as attacks take them: by name or by a function."""

from __future__ import annotations

from collections.abc import Callable

import eagerpy as ep
from foolbox.attacks.base import get_channel_axis
from foolbox.models import Model

from foolart.plugins.visibility import noise_visibility

from .problem import Problem
from .stumbles import is_tensor

Weights = Callable[[ep.Tensor], ep.Tensor]


def check_weights(weights: str | Weights | None) -> None:
    """Refuse what cannot give weights, at an attack's constructor.

    Raises:
        ValueError: If ``weights`` are neither ``None`` nor ``"visibility"`` nor a function.
    """
    if not (weights is None or weights == "visibility" or callable(weights)):
        raise ValueError(
            f"expected weights to be None, 'visibility' or a function, got {weights!r}"
        )


def weights_of(
    weights: str | Weights | None, problem: Problem, original: ep.Tensor
) -> ep.Tensor | None:
    """The weights for some originals.

    Args:
        weights: ``None`` for no weights, ``"visibility"`` for those of
            :func:`foolart.plugins.visibility.noise_visibility`, or a function from originals to
            positive weights of their shape, both eagerpy tensors.
        problem: Holds the model, which may know the axis of the channels.
        original: The originals in [0, 1], ``(N, ...)``.

    Raises:
        ValueError: If the function returns anything else, or visibility is asked of no images.
    """
    if weights is None:
        return None
    if weights == "visibility":
        return noise_visibility(original, _channel_axis(problem.model, original))
    assert callable(weights)
    values = weights(original)
    if not is_tensor(values):
        raise ValueError(
            f"expected weights to return a tensor of shape {original.shape}, got "
            f"{type(values).__name__}"
        )
    values = ep.astensor(values)
    if values.shape != original.shape or not bool((values > 0).all().item()):
        raise ValueError(
            f"expected weights to return positive numbers of shape {original.shape}, got shape "
            f"{values.shape} and a smallest value of {values.min().item()}"
        )
    return values


def _channel_axis(model: Model, images: ep.Tensor) -> int:
    axis = get_channel_axis(model, images.ndim)
    if axis is not None:
        return int(axis)
    first, last = images.shape[1] in (1, 3), images.shape[-1] in (1, 3)
    if images.ndim != 4 or first == last:
        raise ValueError(
            "expected weights='visibility' to be used with images (N, C, H, W) or (N, H, W, C), "
            f"got shape {images.shape} and a model without data_format: pass a function that knows "
            "the layout, e.g. functools.partial(noise_visibility, channel_axis=3)"
        )
    return 1 if first else 3
