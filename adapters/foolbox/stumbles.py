"""What newcomers get wrong, told in a sentence: axes, frameworks, and the numbering of labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import eagerpy as ep
from foolbox.models import Model, PyTorchModel

CHANNELS = (1, 3, 4)
# Fewer images may all be misclassified by a good model.
SUSPICIOUS = 4


def check_kinds(model: Any, inputs: Any, criterion: Any) -> None:
    """Refuse networks, arrays and lists where Foolbox wants models and tensors.

    Raises:
        ValueError: Naming the argument, what was given, and what to write instead.
    """
    if not isinstance(model, Model) and not hasattr(model, "bounds"):
        raise ValueError(
            f"expected a Foolbox model, got {type(model).__name__}: wrap the network, as in "
            "foolbox.PyTorchModel(network.eval(), bounds=(0, 1))"
        )
    if isinstance(criterion, (list, tuple)):
        raise ValueError(
            f"expected labels as a tensor of the framework of the inputs, got a "
            f"{type(criterion).__name__}: torch.tensor(labels) makes one"
        )
    if isinstance(model, PyTorchModel) and isinstance(ep.astensor(inputs), ep.NumPyTensor):
        raise ValueError(
            "expected inputs as PyTorch tensors, as the model's are, got a NumPy array: "
            "torch.from_numpy(images) makes one of it"
        )


def single(x: ep.Tensor) -> str:
    """A hint for inputs that look like one image without a batch; empty for others."""
    if x.ndim != 3 or (x.shape[0] not in CHANNELS and x.shape[-1] not in CHANNELS):
        return ""
    return (
        f": inputs of shape {tuple(x.shape)} look like one image: pass a batch of one, images[None]"
        " and labels of shape (1,)"
    )


@contextmanager
def explained(inputs: Any) -> Iterator[None]:
    """Tell what is probably wrong with inputs that PyTorch cannot compute with.

    Raises:
        ValueError: With the reason, from PyTorch's own error.
    """
    try:
        yield
    except IndexError as error:
        if "out of bounds" not in str(error):
            raise
        raise ValueError(
            f"expected labels below the number of the model's classes ({error}): do the labels "
            "belong to another numbering, with a background class or beginning at 1?"
        ) from error
    except RuntimeError as error:
        x = ep.astensor(inputs)
        hint = _axes(x)
        if not hint or "out of memory" in str(error):
            raise
        raise ValueError(f"the model failed{hint} ({error})") from error


def doubt(inputs: Any, clipped: Any, success: Any) -> None:
    """Warn where a model was wrong about every input before any was changed."""
    x, found, verdict = ep.astensor(inputs), ep.astensor(clipped), ep.astensor(success)
    if len(x) < SUSPICIOUS or not verdict.all().item() or not (found == x).all().item():
        return
    warnings.warn(
        f"all {len(x)} inputs were adversarial before the attack, and come back unchanged: is the "
        "preprocessing of the model right, and do the labels have its numbering (a background "
        "class, or beginning at 1)?",
        stacklevel=4,
    )


def _axes(x: ep.Tensor) -> str:
    if x.ndim == 4 and x.shape[1] not in CHANNELS and x.shape[3] in CHANNELS:
        return (
            f": inputs of shape {tuple(x.shape)} look channels last: PyTorch wants them first, "
            "images.permute(0, 3, 1, 2)"
        )
    return single(x)
