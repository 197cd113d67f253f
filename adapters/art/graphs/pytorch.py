"""PyTorch classifiers, preprocessing included, without leaving the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import eagerpy as ep
import torch
from art.defences.preprocessor import Preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch

from foolart.adapters.art.graphs.base import (
    Estimated,
    Function,
    Observer,
    StagedGraph,
    mean_and_std,
)


class PyTorchGraph(StagedGraph):
    """A :class:`art.estimators.classification.PyTorchClassifier` in one autograd graph.

    Gradients reach the inputs only: parameters are frozen during the forward pass, and modules are
    in evaluation mode; both are as before afterwards.
    """

    def __init__(self, classifier: Any):
        # The only use of ART's private API: the module that ART really calls. The public
        # classifier.model would not do, as some classifiers process its inputs or outputs.
        self.wrapper: torch.nn.Module = classifier._model
        self.inferring = False
        self.layers = _layers(self.wrapper, classifier.model)
        self.dummy = ep.astensor(torch.zeros(0, device=classifier.device))
        super().__init__(classifier)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs ``(N, C)`` before postprocessing; they require a gradient if ``x`` does."""
        block = nullcontext() if self.inferring else frozen(self.wrapper)
        with torch.set_grad_enabled(x.requires_grad), block:
            outputs: torch.Tensor = super().__call__(x)
        return outputs

    def network(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs of the bare network."""
        if self.layers is None:
            outputs: torch.Tensor = self.wrapper(x)[-1]
            return outputs
        for layer in self.layers:
            x = layer(x)
        return x

    def observe(self, x: torch.Tensor, observer: Observer) -> torch.Tensor:
        """The same values; a backward pass calls ``observer(values, gradient)``."""
        return hooked(x, observer)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """A block in which the network stays in evaluation mode, with frozen parameters."""
        with frozen(self.wrapper):
            self.inferring = True
            try:
                yield
            finally:
                self.inferring = False

    def standardise(self, preprocessor: Any) -> Function:
        """Mean and standard deviation; the constants go to the device once."""
        constants: list[torch.Tensor] = []

        def standardised(x: torch.Tensor) -> torch.Tensor:
            if not constants:
                constants[:] = [torch.from_numpy(a).to(x) for a in mean_and_std(preprocessor, x)]
            mean, std = constants
            return (x - mean) / std

        return standardised

    def preprocess(self, preprocessor: Preprocessor) -> Function:
        """``forward`` where there is one, with the gradient of an own ``estimate_forward``."""
        if not isinstance(preprocessor, PreprocessorPyTorch):
            estimated = Estimated(preprocessor)
            return lambda x: _Estimated.apply(x, estimated)  # type: ignore[no-untyped-call, unused-ignore]
        estimates = type(preprocessor).estimate_forward is not PreprocessorPyTorch.estimate_forward

        def preprocessed(x: torch.Tensor) -> Any:
            if not (estimates and x.requires_grad):
                return _differentiable(preprocessor.forward(x, None)[0], x, preprocessor)
            with torch.no_grad():
                values = preprocessor.forward(x, None)[0]
            estimate = _differentiable(preprocessor.estimate_forward(x), x, preprocessor)
            return _GradientOf.apply(values, estimate)  # type: ignore[no-untyped-call, unused-ignore]

        return preprocessed


class _Estimated(torch.autograd.Function):
    """A NumPy preprocessor inside an autograd graph."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, estimated: Estimated) -> torch.Tensor:
        ctx.estimated = estimated
        ctx.save_for_backward(x)
        return torch.from_numpy(estimated.value(x.detach().cpu().numpy())).to(x.device)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():  # the estimate may use PyTorch itself
            gradient = ctx.estimated.gradient(x.detach().cpu().numpy(), gradients[0].cpu().numpy())
        return torch.from_numpy(gradient).to(x.device), None


class _GradientOf(torch.autograd.Function):
    """The values of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, gradients[0]


def _layers(wrapper: torch.nn.Module, network: torch.nn.Module) -> list[torch.nn.Module] | None:
    # PyTorchClassifier's own wrapper runs the layers of a Sequential one by one, whatever its
    # forward, and keeps all their outputs: forward passes then take up to a fifth longer.
    own = type(wrapper).__qualname__.startswith("PyTorchClassifier.")
    return list(network) if own and isinstance(network, torch.nn.Sequential) else None


def _differentiable(y: torch.Tensor, x: torch.Tensor, preprocessor: Preprocessor) -> torch.Tensor:
    if x.requires_grad and not y.requires_grad:
        raise ValueError(
            f"expected a differentiable preprocessor, but no gradient passes "
            f"{type(preprocessor).__name__}: look for detach(), torch.no_grad() or a conversion to "
            "NumPy in its forward, or give it a differentiable estimate_forward"
        )
    return y


def hooked(x: torch.Tensor, observer: Observer) -> torch.Tensor:
    """An alias of ``x`` whose gradient is observed; other users of ``x`` stay out of sight."""
    if not x.requires_grad:
        return x
    values, alias = x.detach(), x.view_as(x)
    alias.register_hook(lambda g: observer(values, g))  # type: ignore[no-untyped-call, unused-ignore]
    return alias


@contextmanager
def frozen(module: torch.nn.Module) -> Iterator[None]:
    """A module in evaluation mode whose parameters need no gradient, until the block ends.

    Flags are set one by one, so that mixed states (a frozen batch norm in a network in training)
    come back as they were.
    """
    training = [m for m in module.modules() if m.training]
    trainable = [p for p in module.parameters() if p.requires_grad]
    try:
        for m in training:
            m.training = False
        for p in trainable:
            p.requires_grad_(False)
        yield
    finally:
        for m in training:
            m.training = True
        for p in trainable:
            p.requires_grad_(True)
