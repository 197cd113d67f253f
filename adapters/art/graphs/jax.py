"""JAX classifiers, with ART's NumPy preprocessing as estimated gradients."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import jax
import jax.numpy as jnp
import numpy as np
from art.defences.preprocessor import Preprocessor

from foolart.adapters.art.graphs.base import (
    Estimated,
    Function,
    Observer,
    StagedGraph,
    mean_and_std,
)


class JaxGraph(StagedGraph):
    """An ``art.experimental.estimators.classification.jax.JaxClassifier``, differentiable.

    ART's own ``loss_gradient`` for JAX leaves the gradient of the preprocessing out; this does not.
    Preprocessors other than a standardisation run in NumPy, so they cannot be jitted from outside.
    """

    def __init__(self, classifier: Any):
        self.dummy = ep.astensor(jnp.zeros(0))
        super().__init__(classifier)

    def network(self, x: Any) -> Any:
        """The outputs of the bare network."""
        return self.classifier.predict_func(self.classifier.model, x)

    def observe(self, x: Any, observer: Observer) -> Any:
        """The same values; a backward pass calls ``observer(values, gradient)``."""

        @jax.custom_vjp  # type: ignore[untyped-decorator, unused-ignore]
        def identity(x: Any) -> Any:
            return x

        def backward(values: Any, gradient: Any) -> tuple[Any]:
            observer(values, gradient)
            return (gradient,)

        identity.defvjp(lambda x: (x, x), backward)
        return identity(x)

    def standardise(self, preprocessor: Any) -> Function:
        """Mean and standard deviation."""

        def standardised(x: Any) -> Any:
            mean, std = mean_and_std(preprocessor, x)
            return (x - mean) / std

        return standardised

    def preprocess(self, preprocessor: Preprocessor) -> Function:
        """The preprocessor in NumPy, with the gradient that it estimates."""
        estimated = Estimated(preprocessor)

        @jax.custom_vjp  # type: ignore[untyped-decorator, unused-ignore]
        def preprocessed(x: Any) -> Any:
            return jnp.asarray(estimated.value(np.asarray(x)))

        def backward(x: Any, gradient: Any) -> tuple[Any]:
            return (jnp.asarray(estimated.gradient(np.asarray(x), np.asarray(gradient))),)

        preprocessed.defvjp(lambda x: (preprocessed(x), x), backward)
        function: Function = preprocessed
        return function
