"""Defences by name, and the models behind them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from foolart.adapters.foolbox.defended_model import defend, network_of
from foolart.evaluation.adaptive import judged
from foolart.evaluation.digests import state_digest
from foolart.evaluation.models import LoadedModel
from foolart.evaluation.specs import Spec, cause, import_object, nearest

Layers = Mapping[str, nn.Module]
"""Defences by the name of the layer whose output they work on; ``input`` for the input."""


@dataclass(frozen=True)
class DefenceEntry:
    """What is known of a defence.

    Attributes:
        build: Makes it from keyword arguments.
        summary: One line for ``foolart list``.
    """

    build: Callable[..., nn.Module]
    summary: str


def defences() -> dict[str, DefenceEntry]:
    """All defences by name."""
    from foolart.plugins import blurnet, filters

    found: dict[str, Any] = {
        "bilateral": filters.BilateralFilter,
        "bit-depth": filters.BitDepthReduction,
        "blur": blurnet.Blur,
        "gaussian-noise": filters.GaussianNoise,
        "median": filters.MedianSmoothing,
        "pixel-deflection": pixel_deflection,
        "patch-replacement": patch_replacement,
        "e8": lattice,
        "chain": chain,
        "random": at_random,
        "layers": layers,
    }
    return {name: DefenceEntry(build, _summary(build)) for name, build in found.items()}


def defended(model: LoadedModel, what: Spec) -> LoadedModel:
    """A loaded model behind a defence.

    Args:
        model: The model.
        what: A name of :func:`defences`, or ``art:CLASS`` for one of ART's preprocessors, with its
            parameters, and ``layer`` for the layer whose output it works on (the input by default);
            ``package.module:factory``; or a module, or a mapping from layers to modules.

    Returns:
        The model with ``defended`` set: what attacks see; ``foolbox`` is what the judge asks.

    Raises:
        ValueError: For an unknown name, parameter or layer, or a value that the defence refuses.
    """
    try:
        behind = defend(model.foolbox, build_defence(what, model))
    except ValueError as error:
        raise ValueError(f"defence {what.label} of model {model.label}: {error}") from error
    behind.defence.to(model.device).eval()
    return replace(
        model,
        foolbox=judged(behind, behind.defence),
        defended=behind,
        digest=state_digest(behind.defence, f"{model.digest} {what.key()}"),
    )


def build_defence(what: Spec, model: LoadedModel | None = None) -> nn.Module | Layers:
    """Make a defence from its specification, see :func:`defended`.

    Args:
        what: The specification.
        model: The undefended model, for defences that look into it.

    Raises:
        ValueError: For an unknown name or parameter, or a value that the defence refuses.
    """
    given = what.needed()
    params = dict(what.params)
    layer = params.pop("layer", None)
    built = given if given is not None else _call(what, _builder(what.name), params, model)
    if not isinstance(built, nn.Module) and not isinstance(built, Mapping):
        raise ValueError(
            f"defence {what.label}: expected a torch.nn.Module on images in [0, 1], or a mapping "
            f"from layers to modules, got {type(built).__name__}"
        )
    if layer is None:
        return built
    if isinstance(built, Mapping):
        raise ValueError(f"defence {what.label} names its layers already: leave out layer={layer}")
    return {str(layer): built}


def patch_replacement(codebook: str, **parameters: Any) -> nn.Module:
    """Patch replacement by the codewords of a file that ``foolart codebook`` wrote."""
    from foolart.plugins.codebook import ProductQuantizer
    from foolart.plugins.patches import PatchReplacer

    return PatchReplacer(ProductQuantizer.load(codebook), **parameters)


def lattice(scale: float = 0.2, shape: Sequence[int] = (1, 2, 4), **parameters: Any) -> nn.Module:
    """Patch replacement by points of the E8 lattice, 2x4 pixels a patch by default."""
    from foolart.plugins.codebook import E8Lattice
    from foolart.plugins.patches import PatchReplacer

    depth, height, width = shape
    return PatchReplacer(E8Lattice(scale, (depth, height, width)), **parameters)


def pixel_deflection(
    deflections: int = 200,
    window: int = 10,
    sigma: float = 0.04,
    seed: int = 0,
    features: str | None = None,
    classifier: str | None = None,
    top: int = 5,
    *,
    model: LoadedModel | None = None,
) -> nn.Module:
    """Pixel deflection; with an activation map, if features and classifier name layers."""
    from foolart.plugins.deflection import ActivationMap, PixelDeflection

    if (features is None) != (classifier is None):
        raise ValueError(
            "expected both features and classifier, the names of the layers of an activation map, "
            f"or neither, got {features!r} and {classifier!r}"
        )
    activation = None
    if features is not None:
        if model is None:
            raise ValueError("expected a model, whose activation map is asked for, got none")
        names = [f"network.{name}" for name in (features, classifier)]
        activation = ActivationMap(_Answers(model.foolbox), *names, top=top)
    return PixelDeflection(deflections, window, sigma, activation=activation, seed=seed)


class _Answers(nn.Module):
    """A Foolbox model on [0, 1] as a module, whose layers can be found."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.network = network_of(model)
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        return self.model(x)


def chain(defences: Sequence[Any], *, model: LoadedModel | None = None) -> nn.Module:
    """Several defences of the input, one after the other."""
    return nn.Sequential(*(_module(part, model) for part in defences))


def at_random(
    defences: Sequence[Any], seed: int = 0, *, model: LoadedModel | None = None
) -> nn.Module:
    """One of several defences of the input, drawn anew at every call."""
    from foolart.plugins.randomised import RandomChoice

    return RandomChoice([_module(part, model) for part in defences], seed=seed)


def layers(*, model: LoadedModel | None = None, **defences: Any) -> Any:
    """Defences of several layers at once, by the layers' names (input for the input)."""
    return {name: _module(part, model) for name, part in defences.items()}


# Builders that are handed the undefended model.
LOOKING = (pixel_deflection, chain, at_random, layers)


def _module(what: Any, model: LoadedModel | None) -> nn.Module:
    built = build_defence(Spec.of(what, "defence"), model)
    if isinstance(built, Mapping):
        raise ValueError(f"expected a defence without a layer of its own here, got {what!r}")
    return built


def _builder(name: str) -> Callable[..., Any]:
    known = defences()
    if name in known:
        return known[name].build
    family, _, rest = name.partition(":")
    if family == "art":
        return functools.partial(_art, rest)
    if rest:
        built: Callable[..., Any] = import_object(name, "defence")
        return built
    raise nearest("defence", name, known, "See `foolart list defences`.")


def _art(name: str, **params: Any) -> nn.Module:
    try:
        from foolart.adapters.art import art_preprocessor
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error
    module: nn.Module = art_preprocessor(name, **params)
    return module


def _call(
    what: Spec, build: Callable[..., Any], params: Mapping[str, Any], model: LoadedModel | None
) -> Any:
    accepted = inspect.signature(build).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    looks = build in LOOKING
    for name in params:
        if (name not in accepted and not anything) or (looks and name == "model"):
            own = [key for key in accepted if not (looks and key == "model")]
            raise nearest(f"parameter of defence {what.name}:", name, [*own, "layer"])
    try:
        return build(**params, **({"model": model} if looks else {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"defence {what.label}: {error}") from error
    except Exception as error:
        raise ValueError(f"defence {what.label}: making it raises {cause(error)}") from error


def _summary(made: Any) -> str:
    return (inspect.getdoc(made) or "").split("\n")[0].split(" [#")[0].rstrip(".")
