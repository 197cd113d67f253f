"""A defence after named modules of a network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches

import torch
from torch import nn

# In place of a layer's name: the input, which adapters defend themselves.
INPUT = "input"


class Guard(nn.Module):
    """A layer whose output passes a defence.

    Args:
        layer: The module to protect, which must return one tensor.
        defence: Maps that tensor to one of the same shape; a module, so that its codebooks move,
            save and load with the network.
    """

    def __init__(self, layer: nn.Module, defence: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.defence = defence

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        """Run the layer, then the defence."""
        features: torch.Tensor = self.layer(*args, **kwargs)
        if not isinstance(features, torch.Tensor):
            raise ValueError(
                f"expected {type(self.layer).__name__} to return one tensor, got "
                f"{type(features).__name__}: guard a module inside it instead"
            )
        guarded: torch.Tensor = self.defence(features)
        return guarded


def guard(network: nn.Module, defences: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of a network with defences after some of its modules.

    Args:
        network: The network, left as it is.
        defences: For each name of ``network.named_modules()``, the defence after that module.

    Returns:
        A deep copy in which each named module is wrapped in a :class:`Guard`. The mode
        (``train``/``eval``) and ``requires_grad`` of everything are as they were.

    Raises:
        ValueError: If there is no module of a name; the nearest names are given.
    """
    guarded = copy.deepcopy(network)
    insert(guarded, defences)
    return guarded


def insert(network: nn.Module, defences: Mapping[str, nn.Module]) -> None:
    """Wrap modules of a network in place; see :func:`guard`.

    Raises:
        ValueError: If there is no module of a name; the nearest names are given.
    """
    # The deepest first: a wrapped parent would rename its children.
    for name in sorted(defences, key=lambda n: n.count("."), reverse=True):
        layer = find(network, name)
        parent, _, child = name.rpartition(".")
        wrapped = Guard(layer, copy.deepcopy(defences[name]).train(layer.training))
        wrapped.training = layer.training
        setattr(network.get_submodule(parent), child, wrapped)


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """A block after which every module is in the mode (``train``/``eval``) that it was in before.

    One by one: a frozen batch norm in a network in training comes back as it was.
    """
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def find(network: nn.Module, name: str) -> nn.Module:
    """The module of a name.

    Raises:
        ValueError: If there is none, with the nearest names.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name and name in modules:
        return modules[name]
    names = [n for n in modules if n]
    near = get_close_matches(name, names, n=5, cutoff=0.3) or names[:5]
    raise ValueError(
        f"expected the name of a layer of {type(network).__name__}, got {name!r}: the nearest are "
        f"{', '.join(map(repr, near))} (all: network.named_modules())"
    )
