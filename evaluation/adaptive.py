"""Defended models as an attacker sees them who knows the defence, and as an honest judge does.

A number for a defence means nothing without its threat model [#ACW]_ [#TCBM]_. These are:

==================  ===============================================================================
``transfer``        adversarials of the model without the defence, or of another one
``white-box``       gradients as they come; what a model without a defence is attacked with
``true-gradient``   the derivative of the defence itself, zero where it rounds
``bpda``            the defence forwards, the identity backwards
``bpda-smooth``     the defence forwards, a smooth surrogate backwards, where it offers one
``bpda-eot``        ``bpda`` on the mean over fresh draws, where the defence is random
``decision``        no gradient at all, only the predicted class
==================  ===============================================================================

References:
    .. [#ACW] Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML
       2018.
    .. [#TCBM] Tramèr, Carlini, Brendel, Mądry, "On adaptive attacks to adversarial example
       defenses", NeurIPS 2020.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import eagerpy as ep
import foolbox
import torch
from torch import nn

from foolart.evaluation.randomness import row_seed, seeded_rows
from foolart.plugins.gradients import margin, value_and_gradient
from foolart.plugins.randomised import Randomised, is_random

# What a defence's backward pass is to be, by threat model; None leaves it as it is.
GRADIENTS = {
    "white-box": None,
    "true-gradient": "true",
    "bpda": "straight-through",
    "bpda-smooth": "surrogate",
    "bpda-eot": "straight-through",
    "decision": None,
}
EOT_DRAWS = 10
JUDGE_DRAWS = 20
# Where the judge's draws begin: no attack gets that far, so that none sees them.
JUDGE_START = 2**40
DECISION_START = 2**41


def threats(defence: nn.Module | None, gradients: bool = True) -> tuple[str, ...]:
    """The threat models under which an attack is to be run.

    Args:
        defence: A module that holds the defence, or None for a model without one.
        gradients: Whether the attack uses gradients.
    """
    if not gradients:
        return ("decision",)
    if defence is None:
        return ("white-box",)
    found = [
        threat
        for threat in ("true-gradient", "bpda", "bpda-smooth")
        if any(True for _ in _choosers(defence, GRADIENTS[threat]))
    ]
    return (*(found or ["white-box"]), *["bpda-eot"] * is_random(defence))


def attacked(model: Any, defence: nn.Module | None, threat: str, *, draws: int = EOT_DRAWS) -> View:
    """A defended model as the attacker of a threat model differentiates it.

    Predictions are those of the model, whatever the threat model, but for two of a random one.
    ``bpda-eot`` answers with the logarithm of the probabilities' mean over fresh draws, and
    ``decision`` gives equal inputs equal answers: Foolbox's attacks that start from an adversarial
    demand that it stays one when they ask again.

    Args:
        model: The Foolbox model, defended.
        defence: A module that holds the defence; its random draws begin anew.
        threat: The threat model.
        draws: Number of draws of ``bpda-eot``.

    Raises:
        ValueError: For an unknown threat model.
    """
    if threat not in GRADIENTS:
        raise ValueError(f"expected threat to be one of {', '.join(GRADIENTS)}, got {threat!r}")
    eot = threat == "bpda-eot"
    random = defence is not None and is_random(defence)
    fixed = DECISION_START if random and threat == "decision" else None
    return View(model, defence, gradient=GRADIENTS[threat], draws=draws if eot else 1, fixed=fixed)


def judged(model: Any, defence: nn.Module | None, *, draws: int = JUDGE_DRAWS) -> Any:
    """A defended model as the judge asks it: a random one by its mean over draws.

    An input's draws derive from its pixels, so that equal inputs always get equal answers, in
    whatever batch.

    Args:
        model: The Foolbox model, defended.
        defence: A module that holds the defence.
        draws: Number of draws.

    Returns:
        ``model`` itself where the defence is not random.
    """
    if defence is None or not is_random(defence):
        return model
    return View(model, defence, draws=draws, fixed=JUDGE_START)


class View(foolbox.models.base.Model):
    """A Foolbox model whose defence has another backward pass, or is averaged over draws.

    Args:
        model: The Foolbox model of a PyTorch network, defended.
        defence: A module that holds the defence, or None.
        gradient: The backward pass: see :class:`foolart.plugins.filters.Filter`. Modules that do
            not offer it keep theirs.
        draws: Number of draws to average over.
        fixed: If given, an input's draws derive from its pixels and this, instead of being fresh.

    Attributes:
        draws: Passes through the network that a call costs.
    """

    def __init__(
        self,
        model: Any,
        defence: nn.Module | None,
        *,
        gradient: str | None = None,
        draws: int = 1,
        fixed: int | None = None,
    ) -> None:
        self.model, self.defence = model, defence
        self.gradient, self.draws, self.fixed = gradient, draws, fixed
        if fixed is None:
            for module in self._randomised():
                module.reset()

    @property
    def bounds(self) -> Any:
        """The bounds of the model inside."""
        return self.model.bounds

    def __getattr__(self, name: str) -> Any:
        """Everything else that the model inside has, such as its device."""
        if name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def __call__(self, inputs: Any) -> Any:
        """The outputs for inputs ``(N, ...)``: logits, or mean log-probabilities, ``(N, C)``."""
        x, restore_type = ep.astensor_(inputs)
        with self._backward(), self._draws(x.raw):
            if self.draws == 1:
                return restore_type(ep.astensor(self.model(x.raw)))
            mean = self._log_probabilities(x.raw) - math.log(self.draws)
            # One after the other: the order in which torch.logsumexp adds depends on a row's place.
            for _ in range(self.draws - 1):
                mean = torch.logaddexp(mean, self._log_probabilities(x.raw) - math.log(self.draws))
        return restore_type(ep.astensor(mean))

    def _log_probabilities(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.model(x), 1)

    @contextmanager
    def _backward(self) -> Iterator[None]:
        modules = [*_choosers(self.defence, self.gradient)]
        before = [module.gradient for module in modules]
        try:
            for module in modules:
                module.gradient = self.gradient
            yield
        finally:
            for module, gradient in zip(modules, before, strict=True):
                module.gradient = gradient

    @contextmanager
    def _draws(self, x: torch.Tensor) -> Iterator[None]:
        if self.fixed is None:
            yield
            return
        modules = self._randomised()
        before = [module.draw for module in modules]
        rows = x.detach().cpu().numpy()
        seeds = [row_seed(self.fixed, hashlib.sha256(row.tobytes()).hexdigest()) for row in rows]
        try:
            for module in modules:
                module.reset(self.fixed)
            with seeded_rows(self.fixed, seeds):
                yield
        finally:
            for module, draw in zip(modules, before, strict=True):
                module.reset(draw)

    def _randomised(self) -> list[Randomised]:
        modules = [] if self.defence is None else self.defence.modules()
        return [module for module in modules if isinstance(module, Randomised)]


def gradient_missing(model: Any, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Where the gradient of the margin is zero, infinite or NaN at the originals.

    Args:
        model: A Foolbox model, see :func:`attacked`.
        x: Originals ``(N, ...)``.
        labels: Their classes ``(N,)``.

    Returns:
        Boolean tensor ``(N,)``; all True where no gradient reaches the inputs at all.
    """
    classes = ep.astensor(labels)

    def score(inputs: ep.Tensor) -> tuple[ep.Tensor, ...]:
        return (margin(model(inputs), classes),)

    try:
        _, gradient = value_and_gradient(score, ep.astensor(x))
    except ValueError:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    size = gradient.raw.flatten(1).abs().amax(1)
    missing: torch.Tensor = (size == 0) | ~torch.isfinite(size)
    return missing


def _choosers(defence: nn.Module | None, gradient: str | None) -> Iterator[Any]:
    """The modules inside a defence whose backward pass can be chosen to be this one."""
    for module in () if defence is None else defence.modules():
        offered = getattr(module, "gradients", ("straight-through", "true"))
        if hasattr(module, "gradient") and gradient in offered:
            yield module
