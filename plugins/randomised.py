"""Defences that draw random numbers, reproducibly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Randomised(nn.Module):
    """A defence with fresh random numbers at every call, all of them derived from one seed.

    Call n after :meth:`reset` always draws the same numbers for a batch of the same shape.

    Args:
        seed: Of all draws.

    Attributes:
        draw: How many calls there were.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = int(seed)
        self.draw = 0

    def reset(self, draw: int = 0) -> None:
        """Go back to the first draw, or to any other."""
        self.draw = draw

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator of the next draw."""
        # A linear congruence keeps (seed, draw) pairs apart; the generator scrambles it further.
        mixed = (self.seed * 6364136223846793005 + self.draw * 1442695040888963407) % 2**63
        self.draw += 1
        return torch.Generator(device).manual_seed(mixed)


class RandomChoice(Randomised):
    """One of several defences, chosen anew at every call: random codebooks, strides or offsets.

    Args:
        defences: The defences to choose from, with equal probability.
        seed: Of the choices.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, defences: Sequence[nn.Module], *, seed: int = 0) -> None:
        super().__init__(seed)
        if len(defences) == 0:
            raise ValueError("expected at least one defence to choose from, got none")
        self.defences = nn.ModuleList(defences)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the whole batch through one of the defences."""
        generator = self.generator(torch.device("cpu"))
        choice = int(torch.randint(len(self.defences), (), generator=generator))
        result: torch.Tensor = self.defences[choice](x)
        return result


def reset(defence: nn.Module, draw: int = 0) -> None:
    """Reset every randomised defence inside a module."""
    for module in defence.modules():
        if isinstance(module, Randomised):
            module.reset(draw)


def is_random(defence: nn.Module) -> bool:
    """Whether a module draws random numbers anywhere."""
    return any(isinstance(module, Randomised) for module in defence.modules())
