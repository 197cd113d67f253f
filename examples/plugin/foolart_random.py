"""An attack in a package of its own, which the harness finds by its entry point."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import torch
from foolbox.distances import l2

from foolart.adapters.foolbox.problem import CheckedMinimizationAttack, Problem


class RandomDirectionsAttack(CheckedMinimizationAttack):
    """Walk along random directions; the control that every attack has to beat.

    Args:
        steps: Number of directions, with one forward pass each.
        length: How far to walk, as a share of the largest distance within the bounds.
        seed: Of the directions, which are the same for all images.
    """

    distance = l2

    def __init__(self, *, steps: int = 20, length: float = 0.1, seed: int = 0):
        self.steps = steps
        self.length = length
        self.seed = seed

    def run(
        self,
        model: Any,
        inputs: Any,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> Any:
        x, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, x, criterion)  # checks everything that was given
        lower, upper = model.bounds
        generator = torch.Generator().manual_seed(self.seed)
        found = x.raw.clone()
        unfooled = ~problem.criterion(x, model(x)).raw
        for _ in range(self.steps):
            direction = torch.randn(x.shape[1:], generator=generator).to(found)
            step = direction.sign() * self.length * (upper - lower)
            tried = (x.raw + step).clamp(lower, upper)
            fooled = problem.criterion(ep.astensor(tried), model(ep.astensor(tried))).raw
            found[fooled & unfooled] = tried[fooled & unfooled]
            unfooled = unfooled & ~fooled
        return restore_type(ep.astensor(found))
