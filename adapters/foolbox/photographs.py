"""What the sticker attack needs of a Foolbox problem: images on [0, 1], a loss, a last verdict."""

from __future__ import annotations

import eagerpy as ep
import torch

from foolart.plugins.gradients import atleast_kd
from foolart.plugins.rp2 import Judge
from foolart.plugins.sticker import Sticker

from .problem import Problem


def photographs(problem: Problem) -> torch.Tensor:
    """The originals on the scale [0, 1].

    Raises:
        TypeError: If they are not of PyTorch.
        ValueError: If they are no images, channels first.
    """
    if not isinstance(problem.x, ep.PyTorchTensor):
        raise TypeError(
            "expected a PyTorch model and its tensors, got "
            f"{type(problem.x).__name__}: stickers are optimised in PyTorch"
        )
    if problem.x.ndim != 4 or getattr(problem.model, "data_format", "") == "channels_last":
        raise ValueError(
            f"expected images (N, C, H, W), channels first, got shape {tuple(problem.x.shape)}"
        )
    images: torch.Tensor = problem.box(None).encode(problem.x).raw
    return images


def check_classes_exist(problem: Problem) -> None:
    """Refuse classes that the model does not have.

    Raises:
        ValueError: Naming the classes that there are.
    """
    box = problem.box(None)
    with torch.no_grad():
        outputs, _ = problem.rows(slice(0, 1)).judge(box, box.encode(problem.x[:1]))
    lowest, highest = problem.classes.min().item(), problem.classes.max().item()
    if lowest < 0 or highest >= outputs.shape[1]:
        name = "target_classes" if problem.targeted else "labels"
        raise ValueError(
            f"expected {name} from 0 to {outputs.shape[1] - 1}, the classes of the model, got "
            f"{lowest} to {highest}"
        )


def cross_entropy(problem: Problem) -> Judge:
    """The cross-entropy to the target class, or to "any other class" than the label.

    That is -log p or -log(1 - p): unlike log p it stops falling once an image is adversarial, so
    that other terms of a loss come to their right.
    """
    box = problem.box(None)

    def judge(images: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        score = problem.rows(rows).score(box, "log_probability")
        log_odds, adversarial, _ = score(ep.astensor(images))
        return torch.nn.functional.softplus(log_odds.raw), adversarial.raw

    return judge


def with_sticker(problem: Problem, sticker: Sticker, batch_size: int | None = None) -> ep.Tensor:
    """The originals with a sticker on, in the model's bounds, where it makes them adversarial.

    Where they are adversarial already, or it does not, the originals themselves; outside the mask
    bit by bit the originals everywhere.

    Args:
        problem: The originals, the model and the criterion.
        sticker: The sticker, on the scale [0, 1].
        batch_size: Images in a pass, None for all.
    """
    box, size = problem.box(None), batch_size or len(problem.x)
    images = box.decode(ep.astensor(sticker(photographs(problem))), problem.x.dtype)
    images = ep.where(ep.astensor(sticker.mask > 0), images, problem.x)
    found = []
    for start in range(0, len(images), size):
        part = problem.rows(slice(start, start + size))
        with torch.no_grad():
            _, before = part.judge(box, box.encode(part.x))
            _, after = part.judge(box, box.encode(images[start : start + size]))
        found.append(ep.logical_and(after, before.logical_not()))
    return ep.where(atleast_kd(ep.concatenate(found), images.ndim), images, problem.x)
