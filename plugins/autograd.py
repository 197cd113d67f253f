"""Linear operators that PyTorch differentiates by their adjoint, not through their steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


class Linear(torch.autograd.Function):
    """A linear operator as a step of PyTorch's graph."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, operator: Operator, adjoint: Operator) -> Tensor:
        """Apply the operator and remember how to go back."""
        ctx.operator, ctx.adjoint = operator, adjoint
        return operator(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Apply the adjoint, which may itself be differentiated."""
        return apply(gradients[0], ctx.adjoint, ctx.operator), None, None


def apply(z: Tensor, operator: Operator, adjoint: Operator) -> Tensor:
    """``operator(z)``, whose gradient is the adjoint's."""
    result: Tensor = Linear.apply(z, operator, adjoint)  # type: ignore[no-untyped-call]
    return result
