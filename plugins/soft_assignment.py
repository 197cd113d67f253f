"""The derivative of a soft assignment of patches to codewords, for a hard one."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from foolart.plugins.codebook import Shape

FLOATS_AT_ONCE = 2**22


class Quantizer(Protocol):
    """A codebook: :class:`~foolart.plugins.codebook.ProductQuantizer`, for instance."""

    @property
    def shape(self) -> Shape:
        """Shape of a patch, (depth, height, width)."""

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        """The codewords ``(m, N, length)`` of patches of that shape."""

    def candidates(self, patches: torch.Tensor, count: int) -> torch.Tensor:
        """The codewords nearest to each patch, ``(m, N, at most count, length)``."""


def soft_assignment(
    patches: torch.Tensor, q: torch.Tensor, quantizer: Quantizer, count: int
) -> torch.Tensor:
    """The codewords q of patches ``(m, N, length)``, with the derivative of a soft assignment.

    That is sum_k w_k c_k, w = softmax(-|P - c_k|^2 / t) over the ``count`` nearest codewords. The
    temperature t is each patch's own mean excess of the squared distances of its candidates over
    the nearest, a constant of the derivative, which is 2/t times the covariance of the candidates
    under w.
    """
    result: torch.Tensor = _SoftAssignment.apply(  # type: ignore[no-untyped-call]
        patches, q, quantizer, count
    )
    return result


class _SoftAssignment(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, patches: torch.Tensor, q: torch.Tensor, quantizer: Quantizer, count: int
    ) -> torch.Tensor:
        ctx.save_for_backward(patches)
        ctx.quantizer, ctx.count = quantizer, count
        return q.view_as(q)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (patches,) = ctx.saved_tensors
        parts = []
        rows = max(1, FLOATS_AT_ONCE // (len(patches) * patches.shape[-1] * ctx.count))
        tiles = torch.split(patches, rows, 1), torch.split(gradients[0], rows, 1)
        for points, g in zip(*tiles, strict=True):
            c = ctx.quantizer.candidates(points, ctx.count).to(points.dtype)
            distance = (c - points.unsqueeze(2)).square().sum(-1)
            excess = distance - distance.amin(-1, keepdim=True)
            t = excess.mean(-1, keepdim=True).clamp(min=torch.finfo(c.dtype).tiny)
            w = torch.softmax(-excess / t, -1).unsqueeze(-1)
            c = c - (w * c).sum(2, keepdim=True)
            along = (c * g.unsqueeze(2)).sum(-1, keepdim=True)
            parts.append(2 / t * (w * along * c).sum(2))
        return torch.cat(parts, 1), None, None, None
