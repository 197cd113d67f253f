"""A defence's values with the gradient of the identity: BPDA inside ``forward``."""

from __future__ import annotations

from typing import Any

import torch

GRADIENTS = ("straight-through", "true", "surrogate")


class _StraightThrough(torch.autograd.Function):
    # At module level: ART pickles its preprocessors.

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def straight_through(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The tensor ``value``, whose gradient goes to ``x`` unchanged.

    Args:
        x: The input of the defence.
        value: Its output, of the same shape.

    References:
        Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018.
    """
    result: torch.Tensor = _StraightThrough.apply(x, value.detach())  # type: ignore[no-untyped-call]
    return result


def check_gradient(gradient: str, accepted: tuple[str, ...] = GRADIENTS) -> None:
    """Refuse an unknown kind of gradient.

    Raises:
        ValueError: Naming what is accepted.
    """
    if gradient not in accepted:
        raise ValueError(f"expected gradient to be one of {', '.join(accepted)}, got {gradient!r}")
