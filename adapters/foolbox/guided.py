"""Guided smoothing for attacks: the pixel graphs of a problem's originals."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
from foolbox.attacks.base import get_channel_axis

from foolart.plugins.smoothing import GuidedSmoothing

from .problem import Problem

# Numbers of channels that an axis of unknown meaning is taken for.
CHANNELS = (1, 3)


def guided_smoothing(
    problem: Problem, x: ep.Tensor, channel_axis: int | None, **parameters: Any
) -> GuidedSmoothing:
    """The smoothing that is guided by the originals of a problem.

    Args:
        problem: Holds the model, which may know the axis of the channels.
        x: The originals, encoded to [0, 1].
        channel_axis: The axis of the channels, or None to ask the model, or else the shape.
        parameters: Those of :class:`GuidedSmoothing`.

    Raises:
        ValueError: If the originals are no batch of images, or their layout is ambiguous.
    """
    if channel_axis is None:
        channel_axis = get_channel_axis(problem.model, 4)
    if channel_axis is None:
        channel_axis = _guess(x.shape)
    return GuidedSmoothing(x, channel_axis=channel_axis, **parameters)


def check_channel_axis(channel_axis: int | None) -> None:
    """Refuse an axis that cannot be that of the channels, at an attack's constructor.

    Raises:
        ValueError: If it is neither None, nor 1, 3 or -1.
    """
    if channel_axis not in (None, 1, 3, -1):
        raise ValueError(
            "expected channel_axis to be None (ask the model), 1 (N, C, H, W), or 3 or -1 "
            f"(N, H, W, C), got {channel_axis!r}"
        )


def _guess(shape: tuple[int, ...]) -> int:
    candidates = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in CHANNELS]
    if len(shape) == 4 and len(candidates) != 1:
        raise ValueError(
            "expected a model that knows its data_format, since the layout of inputs of shape "
            f"{shape} is ambiguous: set model.data_format to 'channels_first' or 'channels_last', "
            "or pass channel_axis=1 or channel_axis=3 to the attack"
        )
    return candidates[0] if candidates else 1
