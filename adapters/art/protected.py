"""New classifiers with defences inside their networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from art.estimators.classification import PyTorchClassifier
from torch import nn

from foolart.plugins.guard import insert


def protected(
    classifier: Any, defences: Mapping[str, nn.Module], *, preprocessors: Sequence[Any] = ()
) -> Any:
    """A new classifier like another, with defences after some modules of its network.

    Args:
        classifier: A PyTorch classifier, left as it is.
        defences: For each name of ``classifier.model.named_modules()``, the defence after it.
        preprocessors: Preprocessing defences to be added after those that there are.

    Returns:
        A classifier of the same class, with a deep copy of the network and an optimizer of the same
        kind and state on its parameters.

    Raises:
        ValueError: If the classifier is not PyTorch's or a layer does not exist.
    """
    check_pytorch(classifier)
    # Together, so that the copied optimizer has the copied parameters.
    network, optimizer = copy.deepcopy((classifier.model, classifier.optimizer))
    known = {id(p) for p in network.parameters()}
    insert(network, defences)
    added = [p for p in network.parameters() if id(p) not in known]
    if optimizer is not None and added:
        optimizer.add_param_group({"params": added})
    params = classifier.get_params()
    params["model"], params["optimizer"] = network, optimizer
    params["preprocessing_defences"] = [
        *copy.copy(classifier.preprocessing_defences or []),
        *preprocessors,
    ] or None
    return type(classifier)(**params)


def check_pytorch(classifier: Any) -> None:
    """Refuse what is no PyTorch classifier.

    Raises:
        ValueError: Naming what was given.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise ValueError(
            "expected an art.estimators.classification.PyTorchClassifier, got "
            f"{type(classifier).__name__}"
        )
