"""The closest adversarial of each sample so far."""

from __future__ import annotations

from dataclasses import dataclass

import eagerpy as ep

from foolart.plugins.box import Box
from foolart.plugins.gradients import atleast_kd, norm

from .problem import Problem


@dataclass(frozen=True)
class Best:
    """The shortest adversarial perturbation of each sample that an attack has seen.

    Attributes:
        r: The perturbations ``(N, ...)``, in encoded units; zero where nothing was found.
        distance: Their norms ``(N,)``, L2 unless given; infinite where nothing was found.
    """

    r: ep.Tensor
    distance: ep.Tensor

    @classmethod
    def none(cls, r: ep.Tensor) -> Best:
        """Nothing found yet, for perturbations like ``r``."""
        return cls(ep.zeros_like(r), ep.full(r, len(r), ep.inf))

    @property
    def found(self) -> ep.Tensor:
        """Whether an adversarial has been seen, ``(N,)``."""
        return self.distance < ep.inf

    def where_closer(
        self, r: ep.Tensor, adversarial: ep.Tensor, distance: ep.Tensor | None = None
    ) -> Best:
        """Take over the perturbations that are adversarial ``(N,)`` and shorter than the best.

        Args:
            r: Perturbations ``(N, ...)``, in encoded units.
            adversarial: Which of them are adversarial, ``(N,)``.
            distance: Their norms ``(N,)``, the same norm every time; by default L2.
        """
        distance = norm(r) if distance is None else distance
        better = ep.logical_and(adversarial, distance < self.distance)
        return Best(
            ep.where(atleast_kd(better, r.ndim), r, self.r),
            ep.where(better, distance, self.distance),
        )

    def images(self, problem: Problem, box: Box, start: ep.Tensor) -> ep.Tensor:
        """The adversarial images exactly as the model judged them, elsewhere the originals.

        Args:
            problem: Holds the originals ``x``, which are returned untouched where they are already
                adversarial or where nothing was found.
            box: Decodes into the units of ``x``.
            start: The encoded originals.
        """
        moved = ep.logical_and(self.found, self.distance > 0)
        images = box.decode(start + self.r, problem.x.dtype)
        return ep.where(atleast_kd(moved, images.ndim), images, problem.x)
