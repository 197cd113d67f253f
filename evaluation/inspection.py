"""The look inside: how perturbations grow from layer to layer (figures 6.1 and 6.6 of [#Zhang21]_).

References:
    .. [#Zhang21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021, section
       6.1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foolart.adapters.foolbox.defended_model import network_of
from foolart.plugins.guard import INPUT, Guard, find

OUTPUT = "output"
"""In place of a layer's name: what the model returns."""

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect_layers` found.

    Attributes:
        layers: The layers, in the order in which they run.
        distortion: For each curve the mean over images of ||f(x') - f(x)||_2 / ||f(x)||_2 at every
            layer. Curves are named after the perturbation, and with a defence Q also
            ``defended original`` (Q(x) against x), and for each perturbation r
            ``defended R`` (Q(x + r) against x) and ``defended R, from defended original``
            (Q(x + r) against Q(x)).
        entropy: For the originals and each perturbation, with and without the defence, the mean
            entropy of the predicted probabilities, in nats.
        accuracy: Likewise, the share of correct predictions.
        images: How many images were looked at.
    """

    layers: tuple[str, ...]
    distortion: dict[str, tuple[float, ...]]
    entropy: dict[str, float]
    accuracy: dict[str, float]
    images: int

    def as_json(self) -> dict[str, Any]:
        """All of it as plain lists and tables."""
        return {
            "images": self.images,
            "layers": list(self.layers),
            "distortion": {name: list(values) for name, values in self.distortion.items()},
            "entropy": dict(self.entropy),
            "accuracy": dict(self.accuracy),
        }


def inspect_layers(
    model: Any,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    perturbations: Mapping[str, Change],
    *,
    layers: Sequence[str] | None = None,
    defended: Any = None,
    progress: Callable[[int], None] | None = None,
) -> Inspection:
    """Follow perturbations through the layers of a network.

    Args:
        model: A :class:`foolbox.PyTorchModel`, undefended, in evaluation mode.
        batches: Originals ``(N, C, H, W)`` within its bounds and their labels ``(N,)``. The
            outputs of all layers for a batch are held in memory.
        perturbations: By name, functions of such a batch that return its perturbed images.
        layers: Names of ``named_modules()`` of its network, ``"input"`` and ``"output"``; by
            default those of :func:`outline`.
        defended: The same model behind a defence, from :func:`foolart.adapters.foolbox.defend`.
        progress: Called with the number of images that are done.

    Raises:
        ValueError: If a layer does not exist, or there is no image.
    """
    sums = _Sums()
    names: list[str] = list(layers) if layers is not None else []
    for x, labels in batches:
        if not names:
            names = outline(model, x[:1])
        clean, logits = activations(model, x, names)
        sums.add("original", logits, labels)
        own: dict[str, torch.Tensor] = {}
        if defended is not None:
            own, logits = activations(defended, x, names)
            sums.add("defended original", logits, labels)
            sums.compare("defended original", own, clean)
        for name, perturb in perturbations.items():
            perturbed = perturb(x, labels)
            values, logits = activations(model, perturbed, names)
            sums.add(name, logits, labels)
            sums.compare(name, values, clean)
            if defended is not None:
                values, logits = activations(defended, perturbed, names)
                sums.add(f"defended {name}", logits, labels)
                sums.compare(f"defended {name}", values, clean)
                sums.compare(f"defended {name}, from defended original", values, own)
        if progress is not None:
            progress(sums.count["original"])
    return sums.inspection(names)


def outline(model: Any, x: torch.Tensor) -> list[str]:
    """The input, the network's parts and the blocks in its containers, as they run, the output.

    Args:
        model: A Foolbox model of a PyTorch network.
        x: An input, ``(1, C, H, W)``.
    """
    network = network_of(model)
    candidates: list[str] = []
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            candidates += [f"{name}.{child}" for child, _ in module.named_children()]
        else:
            candidates.append(name)
    found, _ = activations(model, x, candidates, missing=True)
    return [INPUT, *found, OUTPUT]


def activations(
    model: Any, x: torch.Tensor, layers: Sequence[str], *, missing: bool = False
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The outputs of layers and of the model, without gradients.

    Args:
        model: A Foolbox model of a PyTorch network, defended or not; where a layer has a guard, its
            output is what leaves the guard.
        x: Inputs ``(N, ...)``.
        layers: Names of layers, ``"input"`` (what leaves the defence of the input) and
            ``"output"``.
        missing: Whether layers may be missing in the result that did not run, or that did not
            return one tensor.

    Returns:
        The layers' last outputs in the order in which they ran, and the model's output.

    Raises:
        ValueError: If a layer does not exist, or was not to be missing and is.
    """
    network = network_of(model)
    image_defence = getattr(model, "image_defence", None)
    hooked = {n: _layer(network, n) for n in layers if n not in (INPUT, OUTPUT)}
    kept: dict[str, torch.Tensor] = {INPUT: x} if INPUT in layers else {}
    if INPUT in layers and image_defence is not None:
        hooked[INPUT] = image_defence
    with torch.no_grad(), _kept(hooked, kept):
        logits: torch.Tensor = model(x)
    if INPUT in hooked:
        lower, upper = model.bounds
        kept[INPUT] = kept[INPUT] * (upper - lower) + lower
    if OUTPUT in layers:
        kept[OUTPUT] = logits
    absent = [name for name in layers if name not in kept]
    if absent and not missing:
        raise ValueError(
            f"layer {absent[0]!r} did not run, or did not return one tensor: choose another"
        )
    return kept, logits


@contextmanager
def _kept(modules: Mapping[str, nn.Module], kept: dict[str, torch.Tensor]) -> Iterator[None]:
    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                kept[name] = output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer(network: nn.Module, name: str) -> nn.Module:
    """A layer, or the guard around it, of a network in which guards may come between."""
    path = ""
    for part in name.split("."):
        if path and isinstance(find(network, path), Guard):
            path += ".layer"
        path = f"{path}.{part}" if path else part
    return find(network, path)


class _Sums:
    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self.entropies: dict[str, float] = {}
        self.correct: dict[str, int] = {}
        self.ratios: dict[str, dict[str, float]] = {}

    def add(self, name: str, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take predictions in."""
        log_p = torch.log_softmax(logits.double(), 1)
        entropy = -(log_p.exp() * log_p).sum()
        self.count[name] = self.count.get(name, 0) + len(logits)
        self.entropies[name] = self.entropies.get(name, 0.0) + float(entropy)
        hits = int((logits.argmax(1) == labels).sum())
        self.correct[name] = self.correct.get(name, 0) + hits

    def compare(
        self, name: str, values: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]
    ) -> None:
        """Take distortions of all layers in."""
        ratios = self.ratios.setdefault(name, {})
        for layer, value in values.items():
            before = reference[layer].flatten(1).double()
            change = (value.flatten(1).double() - before).norm(dim=1)
            # An output of zeros that stays so is not distorted at all.
            norm = before.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
            ratios[layer] = ratios.get(layer, 0.0) + float((change / norm).sum())

    def inspection(self, layers: Sequence[str]) -> Inspection:
        """The means."""
        if not self.count:
            raise ValueError("expected at least one image to look at, got none")
        images = self.count["original"]
        return Inspection(
            tuple(layers),
            {k: tuple(v[layer] / images for layer in layers) for k, v in self.ratios.items()},
            {name: value / images for name, value in self.entropies.items()},
            {name: hits / images for name, hits in self.correct.items()},
            images,
        )
