"""The bridge: an ART classifier as a Foolbox model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, TypeVar

import eagerpy as ep
import numpy as np
from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator
from art.estimators.pytorch import PyTorchEstimator
from art.estimators.tensorflow import TensorFlowV2Estimator
from art.experimental.estimators.jax import JaxEstimator
from foolbox.models import Model
from foolbox.types import Bounds

from foolart.adapters.art.graphs.base import Graph, Observer
from foolart.adapters.foolbox.stumbles import SCORES_ONLY, is_tensor

T = TypeVar("T")


class ArtModel(Model):
    """An ART classifier as a Foolbox model, so that any Foolbox attack sees the whole defence.

    White-box: gradients pass the preprocessing defences. A PyTorch or TensorFlow preprocessor is
    differentiated; one that overrides ``estimate_forward`` keeps its own values and takes the
    gradient of that estimate; a NumPy preprocessor contributes its ``estimate_gradient`` (BPDA).
    They may be chained, which ART itself refuses. A preprocessor that lets no gradient pass raises
    a warning with its name. Postprocessing defences are left out: an attack wants the scores.

    PyTorch classifiers stay on their device (but for NumPy preprocessors), in evaluation mode,
    whatever mode the network is in; TensorFlow v2 and JAX classifiers likewise. Any other
    classifier runs through NumPy behind PyTorch tensors on the CPU, with gradients from
    ``class_gradient`` or ``loss_gradient``.

    Limitations: the model returns what the network returns, so have it return logits; a certified
    classifier (randomised smoothing) is seen as its base classifier, as by ART's own attacks; the
    preprocessing is read once: build a new model after ``classifier.set_params``.

    Args:
        classifier: A classifier with ``clip_values``, the same for all features.
        observer: Called as ``observer(inputs, gradient)`` with native tensors after every backward
            pass that reaches the inputs.

    Attributes:
        classifier: The ART classifier.
        dummy: An empty tensor of the framework and device that inputs must have.

    Raises:
        TypeError: If ``classifier`` is no ART classifier.
        ValueError: If its clip values are missing, reversed, or differ between features.
    """

    def __init__(self, classifier: Any, *, observer: Observer | None = None):
        if not (isinstance(classifier, BaseEstimator) and isinstance(classifier, ClassifierMixin)):
            raise TypeError(
                "expected classifier to be an ART classifier, such as "
                f"art.estimators.classification.PyTorchClassifier, got {type(classifier).__name__}"
            )
        self.classifier = classifier
        self.observer = observer
        self._bounds = _bounds(classifier.clip_values)
        self._graph = _graph(classifier)

    @property
    def bounds(self) -> Bounds:
        """The clip values of the classifier."""
        return self._bounds

    @property
    def dummy(self) -> ep.Tensor:
        """An empty tensor of the framework and device that inputs must have."""
        return self._graph.dummy

    @property
    def data_format(self) -> str:
        """``"channels_first"`` or ``"channels_last"``.

        Raises:
            AttributeError: If the classifier knows no channels.
        """
        return "channels_first" if self.classifier.channels_first else "channels_last"

    def from_numpy(self, array: np.ndarray) -> ep.Tensor:
        """An array as a tensor that this model takes."""
        return ep.from_numpy(self.dummy, array)

    def inference(self) -> AbstractContextManager[None]:
        """A block in which the network stays in evaluation mode, whoever else touches its mode.

        Calls do that on their own; this is for many of them, and for gradient checkpointing. Modes
        and ``requires_grad`` are as before at the end.
        """
        return self._graph.inference()

    def __call__(self, inputs: T) -> T:
        """The outputs of the classifier, preprocessing included, without postprocessing.

        Args:
            inputs: ``(N, ...)``, within the bounds, in the framework of the classifier.

        Returns:
            Scores ``(N, C)``, logits if the network returns logits.

        Raises:
            ValueError: If inputs are of another framework, or outputs of another shape.
        """
        x, restore_type = ep.astensor_(inputs)
        if type(x) is not type(self.dummy):
            raise ValueError(
                f"expected inputs as {type(self.dummy).__name__}, the framework of "
                f"{type(self.classifier).__name__}, got {type(x).__name__}: convert them, "
                "e.g. with ArtModel.from_numpy"
            )
        raw = x.raw if self.observer is None else self._graph.observe(x.raw, self.observer)
        scores = self._graph(raw)
        if not is_tensor(scores):
            raise ValueError(
                "expected a classifier whose network returns one tensor of scores (N, C), got "
                f"{type(scores).__name__}: {SCORES_ONLY}"
            )
        outputs = ep.astensor(scores)
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            raise ValueError(
                f"expected a classifier with outputs of shape ({len(x)}, C) and C >= 2, got "
                f"{tuple(outputs.shape)}: give a binary network with one logit z an output layer "
                "that returns (-z, z)"
            )
        result: T = restore_type(outputs)
        return result


def _graph(classifier: Any) -> Graph:
    # Imported here: each needs its own framework.
    if isinstance(classifier, PyTorchEstimator):
        from foolart.adapters.art.graphs.pytorch import PyTorchGraph

        return PyTorchGraph(classifier)
    if isinstance(classifier, TensorFlowV2Estimator):
        from foolart.adapters.art.graphs.tensorflow import TensorFlowGraph

        return TensorFlowGraph(classifier)
    if isinstance(classifier, JaxEstimator):
        from foolart.adapters.art.graphs.jax import JaxGraph

        return JaxGraph(classifier)
    try:
        from foolart.adapters.art.graphs.estimator import EstimatorGraph
    except ImportError as error:
        raise ImportError(
            f"{type(classifier).__name__} runs behind PyTorch tensors, and PyTorch is missing: "
            'pip install "foolart[torch]"'
        ) from error
    return EstimatorGraph(classifier)


def _bounds(clip_values: Any) -> Bounds:
    how = "declare what the inputs span, e.g. classifier.set_params(clip_values=(0.0, 1.0))"
    if clip_values is None:
        raise ValueError(f"expected a classifier with clip_values, got None: {how}")
    lower, upper = (np.asarray(side, dtype=np.float32) for side in clip_values)
    if np.ptp(lower) > 0 or np.ptp(upper) > 0:
        raise ValueError(
            "expected the same clip_values for all features, got arrays of different values: "
            "rescale the features to a common range"
        )
    bounds = Bounds(float(lower.flat[0]), float(upper.flat[0]))
    if not bounds.lower < bounds.upper or not np.isfinite(bounds).all():
        raise ValueError(
            "expected finite clip_values with lower < upper, got "
            f"({bounds.lower}, {bounds.upper}): {how}"
        )
    return bounds
