"""The Adam optimiser, as a descent that owns its variable."""

from __future__ import annotations

import math
from typing import Any

import eagerpy as ep


class Adam:
    """Adam [#Kingma15]_ from a given start.

    Every element is a problem of its own: what happens to one does not depend on the others.

    Args:
        start: The first value of the variable, which is left as it is.
        stepsize: Length of a step of an element.
        beta1: Decay of the mean of the gradients.
        beta2: Decay of the mean of the squared gradients.
        epsilon: Added to the root of the latter.

    Attributes:
        variable: The current value. On PyTorch the next step overwrites it: do not keep it.

    References:
        .. [#Kingma15] Diederik Kingma, Jimmy Ba, "Adam: A method for stochastic optimization",
            ICLR 2015, https://arxiv.org/abs/1412.6980
    """

    def __init__(
        self,
        start: ep.Tensor,
        stepsize: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.variable = start
        self._stepsize = stepsize
        self._betas = beta1, beta2
        self._epsilon = epsilon
        self._steps = 0
        if isinstance(start, ep.PyTorchTensor):
            # The fused step walks through memory: all its tensors need one layout.
            self.variable = ep.astensor(start.raw.detach().contiguous().clone())
            self._optimizer = _torch(self.variable.raw, stepsize, (beta1, beta2), epsilon)
        else:
            self._mean, self._square = ep.zeros_like(start), ep.zeros_like(start)

    def step(self, gradient: ep.Tensor) -> ep.Tensor:
        """Descend, given the gradient at the variable; returns its new value."""
        if isinstance(self.variable, ep.PyTorchTensor):
            self.variable.raw.grad = gradient.raw.contiguous()
            self._optimizer.step()
            return self.variable
        beta1, beta2 = self._betas
        self._steps += 1
        self._mean = beta1 * self._mean + (1 - beta1) * gradient
        self._square = beta2 * self._square + (1 - beta2) * gradient.square()
        root = math.sqrt(1 - beta2**self._steps)
        stepsize = self._stepsize * root / (1 - beta1**self._steps)
        direction = self._mean / (self._square.sqrt() + self._epsilon * root)
        self.variable = self.variable - stepsize * direction
        return self.variable


def _torch(variable: Any, stepsize: float, betas: tuple[float, float], epsilon: float) -> Any:
    from torch.optim import Adam as TorchAdam

    try:
        # One pass over the memory instead of a dozen.
        return TorchAdam([variable], stepsize, betas, epsilon, fused=True)
    except RuntimeError:  # not on this device, or not in this release
        return TorchAdam([variable], stepsize, betas, epsilon)
