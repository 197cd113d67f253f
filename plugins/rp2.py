"""Robust Physical Perturbations (RP2): the loss that makes a sticker fool a classifier.

References:
    .. [#Eykh18] Kevin Eykholt, Ivan Evtimov, Earlence Fernandes, Bo Li, Amir Rahmati, Chaowei Xiao,
       Atul Prakash, Tadayoshi Kohno, Dawn Song, "Robust physical-world attacks on deep learning
       visual classification", CVPR 2018, https://arxiv.org/abs/1707.08945.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from foolart.plugins.low_frequency import LowFrequencies
from foolart.plugins.printability import non_printability
from foolart.plugins.sticker import Sticker
from foolart.plugins.transformations import View, view

# Images (n, C, H, W) in [0, 1], and which of all N they are, to a loss (n,) that falls towards
# adversarial images and whether they are adversarial (n,).
Judge = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Objective:
    """Equation 2 of BlurNet: ``E_i J(f(T_i(x_i + M delta)), y*) + lambda ||M delta||_p + NPS``.

    Args:
        judge: The model's loss J and its verdict.
        x: The photographs, ``(N, C, H, W)`` in [0, 1].
        mask: M, ``(1 or N, 1, H, W)``, zeros and ones.
        compose: See :class:`foolart.plugins.sticker.Sticker`.
        lam: lambda, the weight of the norm, which is not squared.
        norm: p, 1 or 2.
        palette: Printable colours ``(K, 3)`` for the non-printability score, or None for none.
        low: Projection of delta, or None for none.
        extra: Another loss ``(n,)`` of the composed images ``(n, C, H, W)`` in [0, 1], such as the
            regulariser of a defence that the attack is to satisfy; None for none.
        batch_size: Images in a pass, None for all; the results are the same.
    """

    judge: Judge
    x: torch.Tensor
    mask: torch.Tensor
    compose: str = "add"
    lam: float = 0.02
    norm: int = 2
    palette: torch.Tensor | None = None
    low: LowFrequencies | None = None
    extra: Callable[[torch.Tensor], torch.Tensor] | None = None
    batch_size: int | None = None

    def sticker(self, delta: torch.Tensor) -> Sticker:
        """The sticker of the optimised variable ``(1 or N, C, H, W)``."""
        return Sticker(delta if self.low is None else self.low(delta), self.mask, self.compose)

    def __call__(
        self, delta: torch.Tensor, views: Sequence[View]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of every image and the share of its views that are adversarial, both ``(N,)``.

        Args:
            delta: The optimised variable, ``(1 or N, C, H, W)``.
            views: How the images are seen; none for the images as they are.
        """
        with torch.no_grad():
            parts = [self._rows(delta, views, rows) for rows in self._batches()]
        losses, fooled = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(fooled)

    def value_and_gradient(
        self, delta: torch.Tensor, views: Sequence[View]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a call returns, and the gradient of the sum of the losses in ``delta``."""
        gradient = torch.zeros_like(delta)
        parts = []
        for rows in self._batches():
            variable = delta.detach().requires_grad_()
            with torch.enable_grad():
                loss, fooled = self._rows(variable, views, rows)
                gradient += torch.autograd.grad(loss.sum(), variable)[0]
            parts.append((loss.detach(), fooled))
        losses, fools = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(fools), gradient

    def _batches(self) -> list[slice]:
        size = self.batch_size or len(self.x)
        return [slice(i, min(i + size, len(self.x))) for i in range(0, len(self.x), size)]

    def _rows(
        self, delta: torch.Tensor, views: Sequence[View], rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x, sticker = self.x[rows], self.sticker(delta).rows(rows)
        composed = sticker(x)
        seen = [view(composed, *v) for v in views] or [composed]
        judged = [self.judge(images, rows) for images in seen]
        loss = torch.stack([value for value, _ in judged]).mean(0)
        fooled = torch.stack([adversarial.to(x) for _, adversarial in judged]).mean(0)
        size = torch.linalg.vector_norm(sticker.perturbation(x).flatten(1), self.norm, dim=1)
        loss = loss + self.lam * size
        if self.palette is not None:
            loss = loss + non_printability(sticker.delta, sticker.mask, self.palette)
        if self.extra is not None:
            loss = loss + self.extra(composed)
        return loss, fooled


@dataclass(frozen=True)
class Best:
    """The best stickers so far: those that fool most, and among them those of the least loss.

    Attributes:
        delta: ``(1 or N, C, H, W)``.
        fooled: Share of images and views that each fools, ``(1 or N,)``.
        loss: Its loss, ``(1 or N,)``.
    """

    delta: torch.Tensor
    fooled: torch.Tensor
    loss: torch.Tensor

    @classmethod
    def none(cls, delta: torch.Tensor) -> Best:
        """Nothing tried yet, for stickers like ``delta``."""
        worst = delta.new_full((len(delta),), -1.0)
        return cls(torch.zeros_like(delta), worst, worst)

    def where_better(self, delta: torch.Tensor, fooled: torch.Tensor, loss: torch.Tensor) -> Best:
        """Take over the stickers that are better; ``fooled`` and ``loss`` are ``(N,)``.

        A sticker that all images share is judged by the means over the images.
        """
        if len(delta) == 1:
            fooled, loss = fooled.mean(0, keepdim=True), loss.mean(0, keepdim=True)
        better = (fooled > self.fooled) | ((fooled == self.fooled) & (loss < self.loss))
        return Best(
            torch.where(better[:, None, None, None], delta, self.delta),
            torch.where(better, fooled, self.fooled),
            torch.where(better, loss, self.loss),
        )
