"""A defence of one's own, twice: as one would write it first, and so that it can be attacked.

    foolart evaluate --defence my_defence:naive --defence my_defence:honest ...

in this folder evaluates them; parameters go in parentheses, as in ``my_defence:honest(levels=4)``.
"""

from __future__ import annotations

import torch
from torch import nn

from foolart.plugins.filters import Filter


class Naive(nn.Module):
    """Few levels of brightness. Rounding has no derivative: attacks that follow it see nothing."""

    def __init__(self, levels: int = 8) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)


class Honest(Filter):
    """The same. A Filter offers attacks the true gradient and the identity in its place."""

    def __init__(self, levels: int = 8, gradient: str = "straight-through") -> None:
        super().__init__(gradient)
        self.levels = levels

    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)


def naive(levels: int = 8) -> nn.Module:
    return Naive(levels)


def honest(levels: int = 8) -> nn.Module:
    return Honest(levels)
