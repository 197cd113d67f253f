"""The feature maps of a network's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from foolart.plugins.guard import find


class _Reached(Exception):
    pass


def feature_maps(network: nn.Module, layer: str, x: torch.Tensor) -> torch.Tensor:
    """The output of a layer, without computing what comes after it.

    Args:
        network: The network, in whatever mode it is.
        layer: A name of ``network.named_modules()``; where it is used twice, its first use counts.
        x: Inputs of the network, ``(N, ...)``.

    Returns:
        Feature maps ``(N, K, H, W)``, differentiable in ``x``.

    Raises:
        ValueError: If there is no such layer, it is not used, or its output is no map.
    """
    found: list[torch.Tensor] = []

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(output)
        raise _Reached

    handle = find(network, layer).register_forward_hook(stop)
    try:
        network(x)
    except _Reached:
        pass
    finally:
        handle.remove()
    return _checked(layer, found)


@contextmanager
def tapped(network: nn.Module, layer: str) -> Iterator[Callable[[], torch.Tensor]]:
    """A block in which every forward pass leaves a layer's feature maps to be looked at.

    Yields:
        A function that returns the maps ``(N, K, H, W)`` of the last pass, part of its graph; where
        the layer is used twice, its last use counts.

    Raises:
        ValueError: If there is no such layer, its output is no map, or no pass has used it.
    """
    found: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        found[:] = [_checked(layer, [output])]

    handle = find(network, layer).register_forward_hook(keep)
    try:
        yield lambda: _checked(layer, found)
    finally:
        handle.remove()


def first_convolution(network: nn.Module) -> str:
    """The name of the first convolution of a network.

    Raises:
        ValueError: If it has none.
    """
    for name, module in network.named_modules():
        if name and isinstance(module, nn.Conv2d):
            return str(name)
    raise ValueError(
        f"expected a network with a named torch.nn.Conv2d, but {type(network).__name__} has none: "
        "there are no feature maps to filter"
    )


def _checked(layer: str, found: list[Any]) -> torch.Tensor:
    if not found:
        raise ValueError(f"layer {layer!r} is not used by the network: name one that is")
    output = found[0]
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        shape = getattr(output, "shape", None)
        given = type(output).__name__ if shape is None else f"shape {tuple(shape)}"
        raise ValueError(
            f"expected layer {layer!r} to return feature maps (N, K, H, W), got {given}: name a "
            "convolutional layer"
        )
    return output
