"""Every ART classifier without a graph of its own, through its public NumPy methods."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import numpy as np
import torch
from art.estimators.classification.classifier import ClassGradientsMixin
from art.estimators.estimator import LossGradientsMixin

from foolart.adapters.art.graphs.base import Graph, Observer
from foolart.adapters.art.graphs.pytorch import hooked


class EstimatorGraph(Graph):
    """An ART classifier that only speaks NumPy, as a function of PyTorch tensors on the CPU.

    Outputs come from ``predict`` without the postprocessing. The gradient of any loss comes from
    ``class_gradient``: one call a step, which costs as many backward passes as there are classes.
    Where that is not implemented, it comes from ``loss_gradient``, one call for each class in the
    loss: right up to a positive factor for losses that a constant added to all outputs leaves
    unchanged (logit margins, cross-entropy), if the classifier's own loss is the cross-entropy.
    A classifier with neither, such as a decision tree, serves attacks that need no gradients.
    """

    def __init__(self, classifier: Any):
        self.classifier = classifier
        self.dummy = ep.astensor(torch.zeros(0))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs ``(N, C)`` before postprocessing, of inputs ``(N, ...)``."""
        outputs: torch.Tensor = _Predicted.apply(x, self)  # type: ignore[no-untyped-call, unused-ignore]
        return outputs

    def observe(self, x: torch.Tensor, observer: Observer) -> torch.Tensor:
        """The same values; a backward pass calls ``observer(values, gradient)``."""
        return hooked(x, observer)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The outputs of the classifier without its postprocessing, ``(N, C)``."""
        defences = self.classifier.postprocessing_defences
        try:
            self.classifier.postprocessing_defences = None
            return np.asarray(self.classifier.predict(x), x.dtype)
        finally:
            self.classifier.postprocessing_defences = defences

    def gradient(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """The gradient ``(N, ...)`` in the inputs, from the one ``(N, C)`` in the outputs."""
        if isinstance(self.classifier, ClassGradientsMixin):
            try:
                jacobian = self.classifier.class_gradient(x)
                return np.asarray(np.einsum("nc,nc...->n...", gradient, jacobian), x.dtype)
            except NotImplementedError:
                pass
        if isinstance(self.classifier, LossGradientsMixin):
            total = np.zeros_like(x)
            for k in np.flatnonzero(gradient.any(axis=0)):
                label = np.zeros_like(gradient)
                label[:, k] = 1
                weight = gradient[:, k].reshape((-1,) + (1,) * (x.ndim - 1))
                total -= weight * self.classifier.loss_gradient(x, label)
            return total
        raise ValueError(
            f"expected a classifier with class_gradient or loss_gradient, got "
            f"{type(self.classifier).__name__}: use an attack that needs no gradients"
        )


class _Predicted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, graph: EstimatorGraph) -> torch.Tensor:
        ctx.graph = graph
        ctx.save_for_backward(x)
        return torch.from_numpy(graph.predict(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():  # the classifier may use PyTorch itself
            gradient = ctx.graph.gradient(x.detach().numpy(), gradients[0].numpy())
        return torch.from_numpy(gradient), None
