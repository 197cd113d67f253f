"""What newcomers get wrong, told in a sentence: axes, frameworks, ranges, and labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import eagerpy as ep
from foolbox.criteria import Criterion
from foolbox.models import Model, PyTorchModel
from foolbox.models.base import ModelWithPreprocessing

SCORES_ONLY = (
    "wrap the network in one whose forward returns the scores only, such as network(x)[0], "
    "network(x).logits or network(x)['logits']"
)
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
    if not isinstance(criterion, Criterion) and not is_tensor(criterion):
        raise ValueError(
            "expected labels as a tensor of the framework of the inputs, or a Foolbox criterion, "
            f"got {type(criterion).__name__}: torch.tensor(labels) makes one of a list"
        )
    if not is_tensor(inputs):
        raise ValueError(
            "expected inputs as a tensor (N, ...) of the model's framework, got "
            f"{type(inputs).__name__}: torch.stack(images) makes one of a list of tensors"
        )
    if isinstance(model, PyTorchModel) and isinstance(ep.astensor(inputs), ep.NumPyTensor):
        raise ValueError(
            "expected inputs as PyTorch tensors, as the model's are, got a NumPy array: "
            "torch.from_numpy(images) makes one of it"
        )


def is_tensor(x: Any) -> bool:
    """Whether something is a native or an eagerpy tensor of any framework, NumPy included."""
    try:
        ep.astensor(x)
    except ValueError:
        return False
    return True


def single(x: ep.Tensor) -> str:
    """A hint for inputs that look like one image without a batch; empty for others."""
    if x.ndim != 3 or (x.shape[0] not in CHANNELS and x.shape[-1] not in CHANNELS):
        return ""
    return (
        f": inputs of shape {tuple(x.shape)} look like one image: pass a batch of one, images[None]"
        " and labels of shape (1,)"
    )


def beyond(smallest: float, largest: float, lower: float, upper: float) -> str:
    """A hint for values outside the bounds: where they come from, and what to write."""
    if lower == 0 and -10 < smallest < 0 and largest < 10:
        return (
            "are the images normalised already? Pass images as they are, and let the model "
            'normalise them: preprocessing={"mean": ..., "std": ..., "axis": -3}'
        )
    if (lower, upper) == (0, 1) and smallest >= 0 and largest <= 255:
        return "images / 255 has these bounds; or declare bounds=(0, 255) if the model wants it so"
    return "rescale the images or declare the bounds they have"


def integers(classes: ep.Tensor, x: ep.Tensor) -> str:
    """A hint for labels that are no class numbers, one an image; empty where there is none."""
    if classes.ndim == 2 and len(classes) == len(x):
        return ": one-hot labels or scores become class numbers by labels.argmax(-1)"
    return single(x)


@contextmanager
def explained(model: Any, inputs: Any) -> Iterator[None]:
    """Tell what is probably wrong with a network, inputs or epsilons that an attack fails with.

    Raises:
        ValueError: With the reason, from the error of PyTorch, eagerpy or Foolbox.
    """
    try:
        yield
    except NotImplementedError as error:
        if "None in epsilons" not in str(error):
            raise
        raise ValueError(
            "expected epsilons to be numbers, as this attack looks within a given distance, got "
            "None: foolart.adapters.foolbox.MinimalEpsilon(attack) finds the smallest"
        ) from error
    except ValueError as error:
        if not _is_of_outputs(error):
            raise
        raise ValueError(
            f"expected the model to return one tensor of scores (N, C), got another type ({error})"
            f": {SCORES_ONLY}"
        ) from error
    except AssertionError as error:
        hint = _preprocessing_dtype(model, ep.astensor(inputs))
        if not hint:
            raise
        raise ValueError(f"the model failed{hint}") from error
    except IndexError as error:
        if "out of bounds" not in str(error):
            raise
        raise ValueError(
            f"expected labels below the number of the model's classes ({error}): do the labels "
            "belong to another numbering, with a background class or beginning at 1?"
        ) from error
    except RuntimeError as error:
        x = ep.astensor(inputs)
        hint = _axes(x) or _preprocessing(model, x) or _precision(error, x)
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


def _is_of_outputs(error: ValueError) -> bool:
    """Whether what eagerpy does not know is what the network returned, not another argument."""
    calls = [frame.f_code for frame, _ in walk_tb(error.__traceback__)][-2:]
    return "Unknown type" in str(error) and ModelWithPreprocessing.__call__.__code__ in calls


def _axes(x: ep.Tensor) -> str:
    if x.ndim == 4 and x.shape[1] not in CHANNELS and x.shape[3] in CHANNELS:
        return (
            f": inputs of shape {tuple(x.shape)} look channels last: PyTorch wants them first, "
            "images.permute(0, 3, 1, 2)"
        )
    return single(x)


def _preprocessing(model: Any, x: ep.Tensor) -> str:
    for name, value in zip(("mean", "std"), getattr(model, "_preprocess_args", ()), strict=False):
        if x.ndim == 4 and value is not None and value.shape == x.shape[1:2] != (1,):
            return (
                f": its preprocessing has a {name} of {len(value)} channels along the last axis, "
                f"but the channels of inputs of shape {tuple(x.shape)} are the third from the end: "
                'add "axis": -3 to the preprocessing'
            )
    return ""


def _preprocessing_dtype(model: Any, x: ep.Tensor) -> str:
    """A hint for constants that promote the inputs, of which Foolbox asserts that they do not."""
    for name, value in zip(("mean", "std"), getattr(model, "_preprocess_args", ()), strict=False):
        if value is not None and "64" in str(value.dtype) and "64" not in str(x.dtype):
            return (
                f": its preprocessing has a {name} of {value.dtype} for inputs of {x.dtype}: pass "
                f"{name}.astype(numpy.float32), or a list"
            )
    return ""


def _precision(error: RuntimeError, x: ep.Tensor) -> str:
    if "type" in str(error) and "float32" not in str(x.dtype):
        return f": do its parameters have the inputs' dtype, {x.dtype}? images.float() is float32"
    return ""
