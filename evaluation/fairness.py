"""A look at every attack before a run, where the truth is known: on a linear model."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import foolbox
import torch

from foolart.evaluation.catalogue import BuiltAttack
from foolart.evaluation.counting import CountingModel
from foolart.evaluation.randomness import row_seed, seeded_rows

RATIO = 1.25
SIDE = 8
COUNT = 6
CALLS = 5000


class TooLong(Exception):
    """Raised where an attack asks the model more often than the check can afford."""


@dataclass(frozen=True)
class Check:
    """What the self-check found out about an attack.

    Attributes:
        flags: What is wrong with it; shown in every table.
        ratio: Its mean distance over the true one, in its own norm; None if it found nothing.
        alone: Whether an image's result, or its cost, changes with the others in its batch.
    """

    flags: tuple[str, ...]
    ratio: float | None
    alone: bool


def check(attack: BuiltAttack, seed: int = 0) -> Check:
    """Run an attack on a linear model whose true distances are known.

    Attacks with a budget (:attr:`BuiltAttack.epsilon`) are only judged by their images, not by
    their distances; attacks without gradients are not held to ``RATIO``.

    Args:
        attack: The attack as the scenario has it.
        seed: Seed of its random numbers.
    """
    rows = list(range(COUNT))
    try:
        x, y, model, true = problem(attack.attack.distance)
        found, success, cost = _run(attack, model, x, y, rows, seed)
        own = {k: _run(attack, model, x, y, [k] * COUNT, seed) for k in (1, COUNT - 1)}
    except TooLong:
        return Check(("not self-checked: too many queries",), None, attack.alone)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".replace(";", ",").split())
        return Check((f"self-check failed: {text[:120]}",), None, attack.alone)
    flags = []
    try:
        hopeless, claimed, _ = _run(attack, _Wall(model), x, torch.ones_like(y), rows, seed)
    except Exception:
        flags.append("raises on failure")
        hopeless, claimed = x, torch.zeros_like(success)
    for images in (found, hopeless):
        if not bool(torch.isfinite(images).all()):
            flags.append("returns NaN")
        if bool(((images < -1e-5) | (images > 1 + 1e-5)).any()):
            flags.append("leaves the bounds")
    if bool(((hopeless == 0).flatten(1).all(1)).any()):
        flags.append("zeros on failure")
    if bool(claimed.any()):
        flags.append("claims success where none is possible")
    distance = attack.attack.distance(x, found)[success]
    ratio = float((distance / true[success]).mean()) if bool(success.any()) else None
    if attack.epsilon is None and attack.gradients:
        if not bool(success.all()):
            flags.append(f"fails on {int((~success).sum())} of {COUNT} linear problems")
        if ratio is not None and ratio > RATIO:
            flags.append(f"{ratio:.2f} times the true distance on a linear model")
    apart = any(
        not torch.equal(images[0], found[k]) or counts[0] != cost[k]
        for k, (images, _, counts) in own.items()
    )
    return Check(tuple(dict.fromkeys(flags)), ratio, attack.alone or apart)


def problem(distance: Any) -> tuple[torch.Tensor, torch.Tensor, Any, torch.Tensor]:
    """Inputs, labels, a linear model of two classes, and the true distances to its boundary.

    The logits are ``(-z, z) / 2`` with ``z = <w, x - 1/2>``, so that the distance is ``|z|`` over
    the dual norm of ``w``. Inputs are 8-bit images in the middle of the box, and their distance in
    L2 is .4 to 1.4: many levels, but too short for the box to matter.

    Args:
        distance: The distance of the attack; its truth is the last item.
    """
    generator = torch.Generator().manual_seed(21)
    w = torch.randn(3 * SIDE * SIDE, generator=generator, dtype=torch.float64)
    w = w / w.norm()
    x = torch.randint(96, 160, (COUNT, w.numel()), generator=generator) / 255 - 0.5
    margins = torch.linspace(0.4, 1.4, COUNT, dtype=torch.float64)
    margins[1::2] *= -1
    x = x.double() + (margins - x.double() @ w)[:, None] * w + 0.5
    x = (x * 255).round() / 255
    z = (x - 0.5) @ w
    model = foolbox.PyTorchModel(_Linear(w.float()).eval(), bounds=(0, 1), device="cpu")
    duals = {1: w.abs().max(), 2: w.norm(), math.inf: w.abs().sum()}
    dual = duals.get(getattr(distance, "p", 2), w.norm())
    inputs = x.float().reshape(COUNT, 3, SIDE, SIDE)
    return inputs, (z > 0).long(), model, (z.abs() / dual).float()


class _Linear(torch.nn.Module):
    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = w

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # No matrix product: its rounding may depend on a row's place in the batch.
        z = ((x.flatten(1) - 0.5) * self.w).sum(1)
        return torch.stack((-z, z), dim=1) / 2


class _Wall(foolbox.models.base.Model):
    """The linear model with a lead of class 1 that no image in the box can make up for."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def bounds(self) -> Any:
        return self.model.bounds

    def __call__(self, inputs: Any) -> Any:
        return self.model(inputs) + torch.tensor([[0.0, 20.0]])


class _Limited(CountingModel):
    def __call__(self, inputs: Any) -> Any:
        if self.queries > CALLS:
            raise TooLong
        return super().__call__(inputs)


def _run(
    attack: BuiltAttack, model: Any, x: torch.Tensor, y: torch.Tensor, rows: list[int], seed: int
) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
    x, y = x[rows], y[rows]
    counted = _Limited(model, x, y, anytime=False)
    criterion = foolbox.criteria.Misclassification(y)
    seeds = [row_seed(seed, str(row)) for row in rows]
    with seeded_rows(seed, seeds), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, found, success = attack.attack(counted, x.clone(), criterion, epsilons=attack.epsilon)
    return found.detach(), success, list(zip(*counted.counts(), strict=True))
