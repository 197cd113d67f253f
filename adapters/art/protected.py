"""New classifiers with defences inside their networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from foolart.plugins.guard import Guard, guard


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
    network = guard(classifier.model, defences)
    params = classifier.get_params()
    params["model"] = network
    params["optimizer"] = _optimizer(classifier.optimizer, classifier.model, network)
    params["preprocessing_defences"] = [
        *copy.copy(classifier.preprocessing_defences or []),
        *preprocessors,
    ] or None
    return type(classifier)(**params)


def _optimizer(
    optimizer: torch.optim.Optimizer | None, network: nn.Module, guarded: nn.Module
) -> torch.optim.Optimizer | None:
    if optimizer is None:
        return None
    # Both networks have the same parameters in the same order, but for those of trainable defences.
    guards = [module for module in guarded.modules() if isinstance(module, Guard)]
    added = [p for module in guards for p in module.defence.parameters()]
    known = {id(p) for p in added}
    kept = [p for p in guarded.parameters() if id(p) not in known]
    memo = {id(a): b for a, b in zip(network.parameters(), kept, strict=True)}
    copied = copy.deepcopy(optimizer, memo)
    if added:
        copied.add_param_group({"params": added})
    return copied


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
