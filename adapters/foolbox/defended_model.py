"""Defences around Foolbox models."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

import eagerpy as ep
from foolbox.models import Model, PyTorchModel
from foolbox.types import Bounds
from torch import nn

from foolart.plugins.guard import INPUT, guard

T = TypeVar("T")


def defend(model: Model, defence: nn.Module | Mapping[str, nn.Module]) -> DefendedModel:
    """A Foolbox model behind a defence, so that any attack sees both.

    Args:
        model: A Foolbox model that takes PyTorch tensors; for defences of layers, a
            :class:`foolbox.PyTorchModel`.
        defence: What inputs pass first: a module on images ``(N, C, H, W)`` in [0, 1], such as
            :class:`foolart.plugins.patches.PatchReplacer` or one of
            :mod:`foolart.plugins.filters`. Or a mapping from names of the network's layers to
            modules on their outputs; the name ``"input"`` stands for the input.

    Returns:
        A model with the bounds of ``model``, which is left as it is. Defences of the input are
        used as they are, those of layers are copied; all are found in ``.defence``.

    Raises:
        ValueError: If a layer does not exist, or the network cannot be found in the model.
    """
    defences = dict(defence) if isinstance(defence, Mapping) else {INPUT: defence}
    for name, module in defences.items():
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"expected the defence of {name!r} to be a torch.nn.Module, such as "
                f"foolart.plugins.patches.PatchReplacer, got {type(module).__name__}"
            )
    own = defences.pop(INPUT, None)
    if not defences:
        return DefendedModel(model, own, nn.ModuleList([own] if own is not None else []))
    if not isinstance(model, PyTorchModel):
        raise _unreachable(model)
    guarded = guard(network_of(model), defences)
    inner = copy.copy(model)
    # Foolbox keeps a closure around the network, which only its constructor can make.
    inner._model = PyTorchModel(guarded, bounds=model.bounds, device=model.device)._model
    return DefendedModel(inner, own, nn.ModuleList([*([own] if own is not None else []), guarded]))


class DefendedModel(Model):
    """A Foolbox model whose inputs pass a defence; made by :func:`defend`.

    Args:
        model: The model behind the defence.
        image_defence: A module on images in [0, 1], or None for none.
        defence: A module that holds all defences, those inside the network included.

    Attributes:
        model: The model behind the defence.
        defence: A module that holds all defences: to look at, reset or change their gradients.
    """

    def __init__(self, model: Model, image_defence: nn.Module | None, defence: nn.Module) -> None:
        self.model, self.image_defence, self.defence = model, image_defence, defence

    @property
    def bounds(self) -> Bounds:
        """The bounds of the model."""
        return self.model.bounds

    def __getattr__(self, name: str) -> Any:
        """Everything else that the model has, such as its device."""
        if name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def __call__(self, inputs: T) -> T:
        """The outputs of the defended model.

        Raises:
            ValueError: If the inputs are no PyTorch tensors, or do not fit the defence.
        """
        x, restore_type = ep.astensor_(inputs)
        if not isinstance(x, ep.PyTorchTensor):
            raise ValueError(f"expected inputs as PyTorch tensors, got {type(x).__name__}")
        if self.image_defence is not None:
            x = ep.astensor(defended(self.image_defence, x.raw, *self.bounds))
        result: T = restore_type(self.model(x))
        return result


def defended(defence: nn.Module, x: Any, lower: float, upper: float) -> Any:
    """Run images within bounds through a defence on [0, 1]."""
    if (lower, upper) == (0, 1):
        return defence(x)
    return defence((x - lower) / (upper - lower)) * (upper - lower) + lower


def network_of(model: Model) -> nn.Module:
    """The network inside a :class:`foolbox.PyTorchModel`, or inside a defended one.

    Raises:
        ValueError: If there is none to be found.
    """
    if isinstance(model, DefendedModel):
        return network_of(model.model)
    network = None
    if isinstance(model, PyTorchModel):
        network = inspect.getclosurevars(model._model).nonlocals.get("model")
    if not isinstance(network, nn.Module):
        raise _unreachable(model)
    return network


def _unreachable(model: Model) -> ValueError:
    return ValueError(
        "expected a foolbox.PyTorchModel to reach the layers of its network, got "
        f"{type(model).__name__}: protect the network itself with "
        "foolart.plugins.guard.guard(network, defences) before building the model"
    )
