"""TensorFlow v2 classifiers, preprocessing included, in eager mode."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import tensorflow as tf
from art.defences.preprocessor import Preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorTensorFlowV2

from foolart.adapters.art.graphs.base import (
    Estimated,
    Function,
    Observer,
    StagedGraph,
    mean_and_std,
)


class TensorFlowGraph(StagedGraph):
    """An :class:`art.estimators.classification.TensorFlowV2Classifier`, differentiable."""

    def __init__(self, classifier: Any):
        self.dummy = ep.astensor(tf.zeros(0))
        super().__init__(classifier)

    def network(self, x: Any) -> Any:
        """The outputs of the bare network."""
        return self.classifier.model(x, training=False)

    def observe(self, x: Any, observer: Observer) -> Any:
        """The same values; a backward pass calls ``observer(values, gradient)``."""

        @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
        def identity(x: Any) -> Any:
            def backward(gradient: Any) -> Any:
                observer(x, gradient)
                return gradient

            return tf.identity(x), backward

        return identity(x)

    def standardise(self, preprocessor: Any) -> Function:
        """Mean and standard deviation."""

        def standardised(x: Any) -> Any:
            mean, std = mean_and_std(preprocessor, x)
            return (x - mean) / std

        return standardised

    def preprocess(self, preprocessor: Preprocessor) -> Function:
        """``forward`` where there is one, with the gradient of an own ``estimate_forward``."""
        if not isinstance(preprocessor, PreprocessorTensorFlowV2):
            return _estimated(Estimated(preprocessor))
        base = PreprocessorTensorFlowV2
        if type(preprocessor).estimate_forward is base.estimate_forward:
            return lambda x: _connected(preprocessor.forward(x, None)[0], x)
        return lambda x: _gradient_of(
            tf.stop_gradient(preprocessor.forward(x, None)[0]),
            _connected(preprocessor.estimate_forward(x), x),
        )


def _connected(y: Any, x: Any) -> Any:
    # TensorFlow has no gradient at all through tf.round; a zero one can be seen and warned about.
    return y + 0 * tf.reduce_sum(x)


def _estimated(estimated: Estimated) -> Function:
    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def preprocessed(x: Any) -> Any:
        def backward(gradient: Any) -> Any:
            return tf.convert_to_tensor(estimated.gradient(x.numpy(), gradient.numpy()))

        return tf.convert_to_tensor(estimated.value(x.numpy())), backward

    function: Function = preprocessed
    return function


@tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
def _gradient_of(values: Any, estimate: Any) -> Any:
    return tf.identity(values), lambda gradient: (tf.zeros_like(values), gradient)
