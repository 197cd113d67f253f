"""An ART classifier as a differentiable function, whatever its framework."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import eagerpy as ep
import numpy as np
from art.defences.preprocessor import Preprocessor
from art.preprocessing.standardisation_mean_std.utils import broadcastable_mean_std

Function = Callable[[Any], Any]
Observer = Callable[[Any, Any], None]

STANDARDISATIONS = (
    "StandardisationMeanStd",
    "StandardisationMeanStdPyTorch",
    "StandardisationMeanStdTensorFlow",
)


class Graph(ABC):
    """Raw inputs to raw outputs, with gradients.

    Attributes:
        classifier: The ART classifier.
        dummy: An empty tensor of the framework that the inputs must have, on their device.
    """

    classifier: Any
    dummy: ep.Tensor

    @abstractmethod
    def __call__(self, x: Any) -> Any:
        """The outputs ``(N, C)`` before postprocessing, of inputs ``(N, ...)``, native tensors."""

    @abstractmethod
    def observe(self, x: Any, observer: Observer) -> Any:
        """The same values; a backward pass calls ``observer(values, gradient)``."""

    def inference(self) -> AbstractContextManager[None]:
        """A block in which the network stays in evaluation mode, if it has modes."""
        return nullcontext()


class StagedGraph(Graph):
    """A graph that runs the preprocessors itself, one by one, and then the network.

    Args:
        classifier: The ART classifier. Its preprocessing is read once, here.
    """

    def __init__(self, classifier: Any):
        self.classifier = classifier
        self.stages = [
            self.standardise(p) if _standardises(p) else Watched(self, p)
            for p in classifier.preprocessing_operations
            if p.apply_predict and not _is_identity(p)
        ]

    def __call__(self, x: Any) -> Any:
        """The outputs ``(N, C)`` before postprocessing, of inputs ``(N, ...)``, native tensors."""
        for stage in self.stages:
            x = stage(x)
        return self.network(x)

    @abstractmethod
    def network(self, x: Any) -> Any:
        """The outputs of the bare network in evaluation mode."""

    @abstractmethod
    def standardise(self, preprocessor: Any) -> Function:
        """Mean and standard deviation, in the framework."""

    @abstractmethod
    def preprocess(self, preprocessor: Preprocessor) -> Function:
        """Any other preprocessor: in the framework if it can, else with an estimated gradient."""


class Watched:
    """A preprocessor that warns, once, if it returns no gradient where it is given one.

    The first backward passes are watched, until one is given a gradient; that costs two
    synchronisations with the host, and nothing afterwards.
    """

    def __init__(self, graph: StagedGraph, preprocessor: Preprocessor):
        self.name = type(preprocessor).__name__
        self.observe = graph.observe
        self.function = graph.preprocess(preprocessor)
        self.given = False
        self.judged = False

    def __call__(self, x: Any) -> Any:
        """The preprocessed inputs."""
        if self.judged:
            return self.function(x)
        return self.observe(self.function(self.observe(x, self._returns)), self._is_given)

    def _is_given(self, _: Any, gradient: Any) -> None:
        self.given = _any(gradient)

    def _returns(self, _: Any, gradient: Any) -> None:
        if not self.given or self.judged:
            return
        self.judged = True
        if not _any(gradient):
            warnings.warn(
                f"no gradient passes the preprocessor {self.name}: attacks that follow gradients "
                "are blind, which looks like robustness and is none. Give the preprocessor a "
                "differentiable estimate_forward, or a straight-through gradient inside forward",
                stacklevel=2,
            )


class Estimated:
    """A NumPy preprocessor with the gradient that it estimates (BPDA; the identity by default)."""

    def __init__(self, preprocessor: Preprocessor):
        self.preprocessor = preprocessor

    def value(self, x: np.ndarray) -> np.ndarray:
        """The preprocessed inputs, in the dtype of the inputs, which some preprocessors promote."""
        return np.ascontiguousarray(self.preprocessor(x.copy(), None)[0], x.dtype)

    def gradient(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """The gradient in ``x``, from the one in the preprocessed inputs."""
        gradient = self.preprocessor.estimate_gradient(x.copy(), gradient)
        return np.ascontiguousarray(gradient, x.dtype)


def mean_and_std(preprocessor: Any, x: Any) -> tuple[np.ndarray, np.ndarray]:
    """The constants of a standardisation, ready to broadcast over inputs ``x``."""
    mean, std = broadcastable_mean_std(x, preprocessor.mean, preprocessor.std)
    return mean, std


def _standardises(preprocessor: Preprocessor) -> bool:
    # By name: importing the TensorFlow one would not do without TensorFlow. Subclasses may differ.
    return type(preprocessor).__name__ in STANDARDISATIONS


def _is_identity(preprocessor: Any) -> bool:
    # ART's default, preprocessing=(0.0, 1.0).
    return (
        _standardises(preprocessor)
        and not np.any(preprocessor.mean)
        and bool(np.all(np.equal(preprocessor.std, 1)))
    )


def _any(gradient: Any) -> bool:
    return bool((ep.astensor(gradient) != 0).any().item())
