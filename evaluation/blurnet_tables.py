"""BlurNet's two evaluations: transferred stickers (table 1) and the white-box sweep (table 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import foolbox
import torch
from torch import nn

from foolart.adapters.foolbox.robust_physical_perturbations import (
    RobustPhysicalPerturbationsAttack,
)
from foolart.evaluation.statistics import Estimate, wilson
from foolart.plugins.blurnet import Blur
from foolart.plugins.guard import guard


@dataclass(frozen=True)
class Row:
    """One network under one sticker.

    Attributes:
        network: Its name.
        threat: ``transfer`` or ``white-box``.
        target: The class that the sticker aims at.
        lam: lambda of the attack.
        accuracy: Share of clean images classified correctly.
        confidence: Mean probability of the true class on clean images.
        changed: Share of images whose prediction the sticker changed, the paper's success.
        reached: Share that became the target.
        dissimilarity: Mean of ``||x - x_adv||_2 / ||x_adv||_2`` (eq. 1), over all images.
    """

    network: str
    threat: str
    target: int
    lam: float
    accuracy: Estimate
    confidence: float
    changed: Estimate
    reached: Estimate
    dissimilarity: float


def filtered(
    network: nn.Module, layers: Iterable[str], sizes: Iterable[int] = (3, 5)
) -> dict[str, nn.Module]:
    """A network as it is, behind an input blur, and with a blur after each of some layers."""
    sizes = list(sizes)
    found: dict[str, nn.Module] = {"baseline": network}
    for size in sizes:
        found[f"input {size}x{size}"] = nn.Sequential(Blur(size), network)
    for layer in layers:
        for size in sizes:
            found[f"{layer} {size}x{size}"] = guard(network, {layer: Blur(size)}).eval()
    return found


def judge(
    name: str,
    threat: str,
    network: nn.Module,
    x: torch.Tensor,
    stickered: torch.Tensor,
    *,
    label: int,
    target: int,
    lam: float,
) -> Row:
    """Judge a network on photographs, all of one class, and on the same with a sticker on.

    Both are rounded to 8 bits first, and the sticker is on all images, whether it works or not.
    """
    clean, attacked = ((255 * images).round() / 255 for images in (x, stickered))
    with torch.no_grad():
        before, after = network(clean), network(attacked)
    n, was, now = len(x), before.argmax(1), after.argmax(1)
    size = attacked.flatten(1).norm(dim=1).clamp(min=1e-12)
    distance = (clean - attacked).flatten(1).norm(dim=1)

    def share(hits: torch.Tensor) -> Estimate:
        return wilson(hits.float().mean().item(), n)

    return Row(
        network=name,
        threat=threat,
        target=target,
        lam=lam,
        accuracy=share(was == label),
        confidence=before.softmax(1)[:, label].mean().item(),
        changed=share(was != now),
        reached=share(now == target),
        dissimilarity=(distance / size).mean().item(),
    )


def stickered(
    network: nn.Module, x: torch.Tensor, target: int, mask: Any, **options: Any
) -> torch.Tensor:
    """Photographs in [0, 1] with an RP2 sticker on that was made for a network."""
    model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1), device=str(x.device))
    goal = foolbox.criteria.TargetedMisclassification(torch.full((len(x),), target).to(x.device))
    attack = RobustPhysicalPerturbationsAttack(**options)
    return attack.sticker(model, x, goal, mask=mask)(x)


def transfer_table(
    networks: Mapping[str, nn.Module],
    x: torch.Tensor,
    mask: Any,
    *,
    label: int,
    target: int,
    lam: float = 0.002,
    **options: Any,
) -> list[Row]:
    """Table 1: a sticker made for the first network, put before all of them.

    Args:
        networks: By name; the first is the one that is attacked.
        x: Photographs of one class, ``(N, C, H, W)`` in [0, 1].
        mask: Where the sticker may be.
        label: Their class.
        target: The class that the sticker aims at.
        lam: lambda of RP2.
        options: Others of :class:`RobustPhysicalPerturbationsAttack`.
    """
    source = next(iter(networks.values()))
    images = stickered(source, x, target, mask, lam=lam, **options)
    return [
        judge(name, "transfer", network, x, images, label=label, target=target, lam=lam)
        for name, network in networks.items()
    ]


def white_box_table(
    networks: Mapping[str, nn.Module],
    x: torch.Tensor,
    mask: Any,
    *,
    label: int,
    targets: Iterable[int],
    lams: Iterable[float] = (0.002, 0.02),
    **options: Any,
) -> list[Row]:
    """Table 2: stickers made for each network, for every target but the true class, and lambda."""
    goals, lams = [target for target in targets if target != label], list(lams)
    return [
        judge(
            name,
            "white-box",
            network,
            x,
            stickered(network, x, target, mask, lam=lam, **options),
            label=label,
            target=target,
            lam=lam,
        )
        for name, network in networks.items()
        for target in goals
        for lam in lams
    ]
