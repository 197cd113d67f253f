"""The shortest integer perturbation of a tiny input, exactly, by dynamic programming."""

from __future__ import annotations

import math

import eagerpy as ep

from .gradients import is_class

# Larger inputs and longer perturbations are left to rounding, which is then next to optimal.
LARGEST_INPUT = 32
LARGEST_COST = 1024


def shortest(
    h: ep.Tensor, gain: ep.Tensor, lower: ep.Tensor, upper: ep.Tensor
) -> tuple[ep.Tensor, ep.Tensor]:
    """Minimise ``||D||^2`` over the integer D in a box with ``<h, D> >= gain``.

    The best gain for every cost ``||D||^2``, one element after another. Rounding finds
    the optimum for those gains that it reaches exactly; between two of them it may spend up to one
    step of one element too much, which is felt where D has few steps.

    Args:
        h: What one level of each element gains, ``(N, n)``.
        gain: What is to be gained, ``(N,)``.
        lower: Lowest D, integers of at most 0, ``(N, n)``.
        upper: Highest D, integers of at least 0, ``(N, n)``.

    Returns:
        D ``(N, n)``, and where there is one with a cost of at most ``LARGEST_COST``, ``(N,)``; D is
        meaningless elsewhere.
    """
    room = ep.where(h > 0, upper, -lower)
    table = ep.where(_costs(gain) == 0, 0.0, -ep.inf) + ep.zeros_like(gain).expand_dims(-1)
    choices = []
    for i in range(h.shape[1]):
        table, choice = _with_element(table, h[:, i].abs(), room[:, i])
        choices.append(choice)
    enough = table >= gain.expand_dims(-1)
    cost = ep.where(enough, _costs(gain), LARGEST_COST).min(axis=-1)
    exists = enough.any(axis=-1)
    levels = []
    for choice in reversed(choices):
        at_cost = is_class(table, cost)
        levels.append(ep.where(at_cost, choice, ep.zeros_like(choice)).sum(axis=-1))
        cost = cost - levels[-1] * levels[-1]
    return ep.stack(levels[::-1], axis=-1) * h.sign(), exists


def _costs(dummy: ep.Tensor) -> ep.Tensor:
    return ep.arange(dummy, LARGEST_COST + 1).expand_dims(0).astype(dummy.dtype)


def _with_element(
    table: ep.Tensor, gain: ep.Tensor, room: ep.Tensor
) -> tuple[ep.Tensor, ep.Tensor]:
    best, choice = table, ep.zeros_like(table)
    for d in range(1, math.isqrt(LARGEST_COST) + 1):
        moved = table.pad(((0, 0), (d * d, 0)), mode="constant", value=-math.inf)
        moved = moved[:, : LARGEST_COST + 1] + ep.where(room >= d, gain * d, -ep.inf).expand_dims(
            -1
        )
        better = moved > best
        best, choice = ep.where(better, moved, best), ep.where(better, float(d), choice)
    return best, choice
