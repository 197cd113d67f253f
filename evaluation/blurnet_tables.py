"""What BlurNet's two evaluations are made of: filtered networks, stickers, and what they achieve.

Table 1 puts stickers of an undefended network before filtered ones, table 2 makes them for each
network. ``studies/blurnet.py`` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import foolbox
import torch
from torch import nn

from foolart.adapters.foolbox.problem import criterion_of
from foolart.adapters.foolbox.robust_physical_perturbations import (
    RobustPhysicalPerturbationsAttack,
)
from foolart.evaluation.statistics import Estimate, wilson
from foolart.plugins.blurnet import Blur, high_frequency_energy, total_variation
from foolart.plugins.features import feature_maps
from foolart.plugins.guard import guard
from foolart.plugins.sticker import Sticker

ON_MAPS: dict[str, Callable[..., torch.Tensor]] = {
    "tv": total_variation,
    "tikhonov": high_frequency_energy,
}
"""The penalties of training that depend on the images."""


@dataclass(frozen=True)
class Verdict:
    """What an attack achieved on one network.

    Attributes:
        accuracy: Share of clean images classified correctly.
        confidence: Mean probability of the true class on clean images.
        changed: Share of images whose prediction the attack changed, the paper's success.
        reached: Share that became the target.
        kept: Share classified correctly in spite of the attack. A network that is wrong about clean
            images already can keep few, even where nothing changes.
        dissimilarity: Mean of ``||x - x_adv||_2 / ||x_adv||_2`` (eq. 1), over all images.
        distance: Median of ``||x - x_adv||_2``, images in [0, 1].
    """

    accuracy: Estimate
    confidence: float
    changed: Estimate
    reached: Estimate
    kept: Estimate
    dissimilarity: float
    distance: float


def filtered(
    network: nn.Module, layers: Iterable[str], sizes: Iterable[int] = (3, 5)
) -> dict[str, nn.Module]:
    """Copies of a network: as it is, behind an input blur, with a blur after each of some layers.

    All are in evaluation mode.
    """
    sizes = list(sizes)
    found = {"baseline": guard(network, {}).eval()}
    for size in sizes:
        found[f"input {size}x{size}"] = nn.Sequential(Blur(size), found["baseline"]).eval()
    for layer in layers:
        for size in sizes:
            found[f"{layer} {size}x{size}"] = guard(network, {layer: Blur(size)}).eval()
    return found


def judge(
    network: nn.Module,
    x: torch.Tensor,
    attacked: torch.Tensor,
    *,
    label: int,
    target: int | None = None,
) -> Verdict:
    """Judge a network on photographs, all of one class, and on the same after an attack.

    Both are rounded to 8 bits first. Images count whether the attack works on them or not.

    Args:
        network: In evaluation mode.
        x: The photographs ``(N, C, H, W)`` in [0, 1].
        attacked: The same after the attack.
        label: Their class.
        target: The class that the attack aims at; None for any other than ``label``.
    """
    clean, bad = ((255 * images).round() / 255 for images in (x, attacked))
    with torch.no_grad():
        before, after = network(clean), network(bad)
    was, now = before.argmax(1), after.argmax(1)
    size = bad.flatten(1).norm(dim=1).clamp(min=1e-12)
    distance = (clean - bad).flatten(1).norm(dim=1)

    def share(hits: torch.Tensor) -> Estimate:
        return wilson(hits.float().mean().item(), len(x))

    return Verdict(
        accuracy=share(was == label),
        confidence=before.softmax(1)[:, label].mean().item(),
        changed=share(was != now),
        reached=share(now != label if target is None else now == target),
        kept=share(now == label),
        dissimilarity=(distance / size).mean().item(),
        distance=distance.median().item(),
    )


def sticker_for(
    network: nn.Module,
    x: torch.Tensor,
    mask: Any,
    *,
    label: int,
    target: int | None = None,
    **options: Any,
) -> Sticker:
    """An RP2 sticker that makes a network see another class on photographs in [0, 1].

    Args:
        network: In evaluation mode.
        x: Photographs ``(N, C, H, W)``, all of one class.
        mask: Where the sticker may be.
        label: Their class.
        target: The class to be seen; None for any other than ``label``.
        options: Of :class:`RobustPhysicalPerturbationsAttack`.
    """
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=str(x.device))
    classes = torch.full((len(x),), label if target is None else target, device=x.device)
    goal = criterion_of(classes, targeted=target is not None)
    return RobustPhysicalPerturbationsAttack(**options).sticker(model, x, goal, mask=mask)


def transfer(
    networks: Mapping[str, nn.Module], x: torch.Tensor, sticker: Sticker, *, label: int, target: int
) -> dict[str, Verdict]:
    """Put a sticker before many networks, table 1; by name."""
    return {
        name: judge(network, x, sticker(x), label=label, target=target)
        for name, network in networks.items()
    }


def white_box(
    network: nn.Module,
    x: torch.Tensor,
    mask: Any,
    *,
    label: int,
    target: int | None = None,
    **options: Any,
) -> Verdict:
    """A cell of table 2: a sticker made for the network that it is put before."""
    sticker = sticker_for(network, x, mask, label=label, target=target, **options)
    return judge(network, x, sticker(x), label=label, target=target)


def unmasked(
    network: nn.Module, x: torch.Tensor, attack: Any, *, label: int, epsilon: float | None = None
) -> Verdict:
    """What a Foolbox attack achieves that may change all pixels of the photographs."""
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=str(x.device))
    labels = torch.full((len(x),), label, device=x.device)
    _, attacked, _ = attack(model, x, labels, epsilons=epsilon)
    return judge(network, x, attacked, label=label)


def regulariser(
    network: nn.Module, layer: str, penalty: str, alpha: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A defender's penalty, as the ``extra_loss`` of an attack that is to look harmless to it.

    Args:
        network: The network.
        layer: The layer under the penalty.
        penalty: ``"tv"`` or ``"tikhonov"``; ``"linf"`` does not depend on the images.
        alpha: Its weight.

    Raises:
        ValueError: For another penalty.
    """
    if penalty not in ON_MAPS:
        raise ValueError(f"expected a penalty on feature maps, {list(ON_MAPS)}, got {penalty!r}")
    term = ON_MAPS[penalty]
    return lambda images: alpha * term(feature_maps(network, layer, images))
