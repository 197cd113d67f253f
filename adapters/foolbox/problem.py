"""What every native Foolbox attack does first: check its inputs and name its problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import eagerpy as ep
from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack, get_criterion
from foolbox.criteria import Criterion, Misclassification, TargetedMisclassification
from foolbox.models import Model

from foolart.plugins.box import Box
from foolart.plugins.gradients import Score, log_odds, margin

from .stumbles import beyond, check_kinds, doubt, explained, integers

T = TypeVar("T")

LOSSES = {"margin": margin, "log_probability": log_odds}


@dataclass(frozen=True)
class Problem:
    """A model, a criterion and checked inputs: what an attack's ``run`` works on.

    Attributes:
        model: The Foolbox model.
        x: The originals, ``(N, ...)``, in the units of ``model.bounds``.
        criterion: The Foolbox criterion.
        classes: Labels, or target classes if ``targeted``, ``(N,)``, int64.
        targeted: Whether ``classes`` are to be reached instead of left.
    """

    model: Model
    x: ep.Tensor
    criterion: Criterion
    classes: ep.Tensor
    targeted: bool

    @classmethod
    def of(cls, model: Model, x: ep.Tensor, criterion: Any) -> Problem:
        """Check the arguments of ``run`` and bring them into one form.

        Raises:
            ValueError: If a criterion is unsupported, or labels, inputs or bounds do not fit.
        """
        criterion = get_criterion(criterion)
        check_inputs(model, x)
        if isinstance(criterion, Misclassification):
            name, classes, targeted = "labels", criterion.labels, False
        elif isinstance(criterion, TargetedMisclassification):
            name, classes, targeted = "target_classes", criterion.target_classes, True
        else:
            raise ValueError(
                "unsupported criterion: expected labels, foolbox.criteria.Misclassification or "
                f"foolbox.criteria.TargetedMisclassification, got {criterion!r}"
            )
        check_classes(name, classes, x)
        return cls(model, x, criterion, _int64(classes), targeted)

    def rows(self, rows: slice) -> Problem:
        """The same problem for some of its images."""
        classes = self.classes[rows]
        criterion = criterion_of(classes, self.targeted)
        return Problem(self.model, self.x[rows], criterion, classes, self.targeted)

    def box(self, levels: int | None) -> Box:
        """The model's bounds with a number of levels.

        Raises:
            ValueError: If an original does not lie on the grid of levels.
        """
        lower, upper = self.model.bounds
        box = Box(float(lower), float(upper), levels)
        if levels is not None and bool(box.off_grid(self.x).any().item()):
            raise ValueError(
                f"expected originals on the grid of {levels} levels between {box.lower} and "
                f"{box.upper}, got values between levels: round the images to 8 bits (or pass the "
                "levels of their real bit depth), or pass levels=None for continuous inputs"
            )
        return box

    def score(self, box: Box, loss: str = "margin") -> Score:
        """The function an attack differentiates: encoded inputs to (loss, is_adversarial, margin).

        The loss and the margin have shape ``(N,)`` and decrease towards adversarial inputs;
        ``is_adversarial`` is the criterion's own verdict on exactly these inputs, so that ties of
        the argmax fall as Foolbox lets them fall.
        """

        def score(k: ep.Tensor) -> tuple[ep.Tensor, ...]:
            outputs, adversarial = self.judge(box, k)
            lead = margin(outputs, self.classes, self.targeted)
            if loss == "margin":
                return lead, adversarial, lead
            return LOSSES[loss](outputs, self.classes, self.targeted), adversarial, lead

        return score

    def judge(self, box: Box, k: ep.Tensor) -> tuple[ep.Tensor, ep.Tensor]:
        """The model's outputs ``(N, C)`` on encoded inputs and the criterion's verdict ``(N,)``."""
        inputs = box.decode(k, self.x.dtype)
        outputs = self.model(inputs)
        check_outputs(outputs, self.x)
        return outputs, self.criterion(inputs, outputs)


class CheckedMinimizationAttack(MinimizationAttack):
    """A minimization attack that says what is wrong with its inputs; Foolbox only asserts."""

    def __call__(  # type: ignore[no-untyped-def, override, unused-ignore]
        self, model: Model, inputs: T, criterion: Any, *, epsilons: Any, **kwargs: Any
    ):
        """Run the attack as Foolbox does, after clear checks."""
        return checked_call(super().__call__, model, inputs, criterion, epsilons, kwargs)


class CheckedFixedEpsilonAttack(FixedEpsilonAttack):
    """A fixed-epsilon attack that says what is wrong with its inputs."""

    def __call__(  # type: ignore[no-untyped-def, override, unused-ignore]
        self, model: Model, inputs: T, criterion: Any, *, epsilons: Any, **kwargs: Any
    ):
        """Run the attack as Foolbox does, after clear checks."""
        return checked_call(super().__call__, model, inputs, criterion, epsilons, kwargs)


def checked_call(
    call: Callable[..., Any],
    model: Model,
    inputs: Any,
    criterion: Any,
    epsilons: Any,
    kwargs: dict[str, Any],
) -> Any:
    """Check a call before it starts, explain how it fails, and doubt what it should not return.

    Args:
        call: What runs the attack, as ``call(model, inputs, criterion, epsilons=..., **kwargs)``.
        model: The Foolbox model.
        inputs: The originals ``(N, ...)``; the attack sees them detached.
        criterion: Labels or a Foolbox criterion.
        epsilons: A number, None, or an iterable of these.
        kwargs: Passed on.

    Raises:
        ValueError: Naming the argument, what was given, and what is accepted.
    """
    check_kinds(model, inputs, criterion)
    inputs, epsilons = _detached(inputs), _numbers(epsilons)
    Problem.of(model, ep.astensor(inputs), criterion)
    with explained(model, inputs):
        result = call(model, inputs, criterion, epsilons=epsilons, **kwargs)
    _, clipped, success = result
    if isinstance(clipped, list):
        clipped, success = clipped[-1], success[-1]
    doubt(inputs, clipped, success)
    return result


def criterion_of(classes: ep.Tensor, targeted: bool) -> Criterion:
    """The Foolbox criterion of labels, or of target classes if ``targeted``."""
    return TargetedMisclassification(classes) if targeted else Misclassification(classes)


def check_inputs(model: Model, x: ep.Tensor) -> None:
    """Refuse inputs that are no float batch within the model's bounds.

    Raises:
        ValueError: For a wrong dtype, an empty batch, NaN or values outside the bounds.
    """
    if "float" not in str(x.dtype):
        raise ValueError(
            f"expected inputs of a float dtype, got {x.dtype}: convert the images first, e.g. "
            "images.float() / 255 for a model with bounds (0, 1)"
        )
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(
            f"expected a non-empty batch of inputs (N, ...), got shape {tuple(x.shape)}: a single "
            "image needs a leading axis of length 1"
        )
    lower, upper = model.bounds
    smallest, largest = x.min().item(), x.max().item()
    if math.isnan(smallest) or math.isnan(largest):
        raise ValueError("expected inputs without NaN, got at least one NaN")
    if smallest < lower or largest > upper:
        raise ValueError(
            f"expected inputs within model.bounds ({lower}, {upper}), got values from {smallest} "
            f"to {largest}: {beyond(smallest, largest, lower, upper)}"
        )


def check_classes(name: str, classes: ep.Tensor, x: ep.Tensor) -> None:
    """Refuse labels of a wrong framework, device, dtype or shape.

    Raises:
        ValueError: Naming the argument, what was given, and what is accepted.
    """
    if type(classes) is not type(x):
        raise ValueError(
            f"expected {name} of the framework of the inputs, {type(x).__name__}, got "
            f"{type(classes).__name__}: on PyTorch, torch.from_numpy({name}) makes them"
        )
    here, there = (getattr(tensor.raw, "device", None) for tensor in (x, classes))
    if isinstance(x, ep.PyTorchTensor) and here != there:
        raise ValueError(
            f"expected {name} on the device of the inputs, {here}, got {there}: "
            f"{name}.to(images.device) moves them"
        )
    if classes.shape != (len(x),):
        raise ValueError(
            f"expected {name} to have shape ({len(x)},), got {tuple(classes.shape)}"
            f"{integers(classes, x)}"
        )
    if "int" not in str(classes.dtype):
        raise ValueError(
            f"expected {name} of an integer dtype, got {classes.dtype}: they number classes, "
            f"on PyTorch {name}.long()"
        )
    if classes.min().item() < 0:
        raise ValueError(f"expected {name} >= 0, got {classes.min().item()}")


def check_outputs(outputs: ep.Tensor, x: ep.Tensor) -> None:
    """Refuse a model whose outputs are no scores of at least two classes.

    Raises:
        ValueError: For outputs of any other shape than ``(N, C)`` with C >= 2.
    """
    if outputs.ndim != 2 or outputs.shape[0] != len(x):
        raise ValueError(
            f"expected the model to return scores of shape ({len(x)}, C), got {outputs.shape}"
        )
    if outputs.shape[1] < 2:
        raise ValueError(
            "expected the model to return scores of at least two classes, got a single one: "
            "a binary model with one logit z needs an output layer that returns (-z, z)"
        )


def _detached(inputs: T) -> T:
    # Else every iterate would hang on to the graph of the one before it, and some steps fail.
    x, restore_type = ep.astensor_(inputs)
    if not isinstance(x, ep.PyTorchTensor):
        return inputs
    detached: T = restore_type(ep.astensor(x.raw.detach()))
    return detached


def _numbers(epsilons: Any) -> Any:
    # Floats and None, or a list of them, since Foolbox goes through it more than once.
    several = isinstance(epsilons, Iterable) and getattr(epsilons, "ndim", 1) > 0
    found = []
    for epsilon in list(epsilons) if several else [epsilons]:
        try:
            number = None if epsilon is None else float(epsilon)
        except (TypeError, ValueError):
            number = math.nan
        if number is not None and not (number >= 0 and math.isfinite(number)):
            raise ValueError(f"expected epsilons to be finite and >= 0, or None, got {epsilon!r}")
        found.append(number)
    if not found:
        raise ValueError(f"expected at least one epsilon, or None, got {epsilons!r}")
    return found if several else found[0]


def _int64(classes: ep.Tensor) -> ep.Tensor:
    # int32 labels crash cross-entropy on PyTorch, and on TensorFlow with NumPy 2.
    if isinstance(classes, ep.PyTorchTensor):
        return ep.astensor(classes.raw.long())
    if isinstance(classes, ep.TensorFlowTensor):
        import tensorflow as tf

        return classes.astype(tf.int64)
    return classes
