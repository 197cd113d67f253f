"""The smallest epsilon at which a fixed-epsilon attack succeeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import eagerpy as ep
import numpy as np
import numpy.typing as npt
from foolbox.attacks.base import AttackWithDistance, MinimizationAttack, T
from foolbox.distances import Distance
from foolbox.models import Model

from foolart.plugins.gradients import atleast_kd

from .problem import CheckedMinimizationAttack, Problem, criterion_of

# The default candidates span so many octaves below the longest distance between two inputs.
_OCTAVES = 16


class MinimalEpsilon(CheckedMinimizationAttack):
    """Turns a fixed-epsilon attack into a minimization attack: the smallest epsilon that succeeds.

    The protocol by which fixed-epsilon attacks are compared with others: each image is attacked at
    several epsilons, and keeps its closest adversarial.

    Foolbox attacks take one epsilon for a whole batch, so the candidates are a fixed list, the same
    for all images, and the images that are due at the same candidate share a call. By bisection an
    image sees ``ceil(log2(K + 1))`` of K candidates, while the images spread over ever more calls;
    exhaustively, from below, it sees every one up to its first success, in at most K calls. The
    result does not depend on the batch, if the attack's does not (random starts do). Bisection
    assumes that an attack that succeeds at an epsilon does so at larger ones; where this is false,
    it finds a success that follows a failure, not always the first.

    Args:
        attack: The fixed-epsilon attack, or its ``repeat(n)``.
        epsilons: The candidates, in the units of the attack's distance, or their number: so many in
            geometric progression, up to the longest distance within the model's bounds and down to
            2**-16 of it. The default, 1023, takes 10 calls an image, to within 1.1 %.
        search: ``"bisection"`` or ``"exhaustive"``.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        attack: AttackWithDistance,
        *,
        epsilons: int | Sequence[float] = 1023,
        search: str = "bisection",
    ):
        if not isinstance(attack, AttackWithDistance) or isinstance(attack, MinimizationAttack):
            raise ValueError(
                "expected attack to be a fixed-epsilon attack (a minimization attack finds the "
                f"smallest perturbation by itself), got {attack!r}"
            )
        if isinstance(epsilons, int | np.integer):
            if not epsilons >= 1:
                raise ValueError(f"expected at least 1 epsilon, got {epsilons}")
        elif not hasattr(epsilons, "__len__"):
            raise ValueError(f"expected epsilons to be their number or a list, got {epsilons!r}")
        elif not len(epsilons) or not all(0 < e < math.inf for e in epsilons):
            raise ValueError(f"expected epsilons to be positive and finite, got {epsilons!r}")
        if search not in ("bisection", "exhaustive"):
            raise ValueError(f"expected search to be 'bisection' or 'exhaustive', got {search!r}")
        self.attack = attack
        self.epsilons = epsilons
        self.search = search

    @property
    def distance(self) -> Distance:
        """The distance of the attack."""
        return self.attack.distance

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """Run the search; keyword arguments go to the attack."""
        originals, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, originals, criterion)
        del inputs, criterion
        x, candidates = problem.x, self._candidates(problem)

        adversarial = problem.criterion(x, model(x))
        best = x
        closest = ep.where(adversarial, self.distance(x, x), math.inf)
        # The smallest candidate that succeeds lies from low to high, which at K stands for none.
        low = np.zeros(len(x), dtype=np.int64)
        high = np.where(adversarial.numpy(), 0, len(candidates))
        while (low < high).any():
            due = (low + high) // 2 if self.search == "bisection" else low
            due = np.where(low < high, due, -1)
            images, success = self._attack_each(problem, best, candidates, due, kwargs)

            distance = self.distance(x, images)
            better = ep.logical_and(success, distance < closest)
            best = ep.where(atleast_kd(better, x.ndim), images, best)
            closest = ep.where(better, distance, closest)
            high = np.where(success.numpy() & (due >= 0), due, high)
            low = np.where(success.numpy() | (due < 0), low, due + 1)
        return restore_type(best)

    def _candidates(self, problem: Problem) -> npt.NDArray[np.float64]:
        if not isinstance(self.epsilons, int | np.integer):
            return np.unique(np.asarray(self.epsilons, dtype=np.float64))
        lower, upper = problem.model.bounds
        one = problem.x[:1]
        longest = self.distance(ep.full_like(one, lower), ep.full_like(one, upper)).item()
        return np.asarray(longest * 2.0 ** np.linspace(0, -_OCTAVES, self.epsilons)[::-1])

    def _attack_each(
        self,
        problem: Problem,
        best: ep.Tensor,
        candidates: npt.NDArray[np.float64],
        due: npt.NDArray[np.int64],
        kwargs: dict[str, Any],
    ) -> tuple[ep.Tensor, ep.Tensor]:
        # One call for all images that are due at the same candidate; those at -1 are done.
        order, images, success = [], [], []
        for candidate in np.unique(due):
            rows = np.flatnonzero(due == candidate)
            index = ep.from_numpy(problem.x, rows)
            if candidate < 0:
                found = best[index]
                fools = ep.zeros(problem.x, len(rows)) > 0
            else:
                criterion = criterion_of(problem.classes[index], problem.targeted)
                _, found, fools = self.attack(
                    problem.model,
                    problem.x[index],
                    criterion,
                    epsilons=float(candidates[candidate]),
                    **kwargs,
                )
            order.append(rows)
            images.append(found)
            success.append(fools)
        back = ep.from_numpy(problem.x, np.argsort(np.concatenate(order)))
        return ep.concatenate(images)[back], ep.concatenate(success)[back]
