"""The pictures of the documentation, made by the suite itself.

    python docs/figures/make.py [overview] [smoothing] [walk] [quantisation] [--out docs/figures]

Needs the extras ``demo`` and ``eval``; without names, all are made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import eagerpy as ep
import foolbox as fb
import matplotlib as mpl
import numpy as np
import torch
from torch import nn

from foolart.adapters.foolbox import (
    BoundaryProjectionAttack,
    Quantized,
    SmoothBoundaryProjectionAttack,
)
from foolart.adapters.foolbox.problem import Problem
from foolart.evaluation.data import load_data
from foolart.evaluation.models import load_model
from foolart.plugins.box import rint
from foolart.plugins.gradients import norm, value_and_gradient
from foolart.plugins.quantization import LagrangianQuantizer, round_to_grid
from foolart.plugins.smoothing import GuidedSmoothing

mpl.use("Agg")
import matplotlib.pyplot as plt

ROW = 1  # of Foolbox's samples


def photograph() -> tuple[torch.Tensor, torch.Tensor]:
    """One of Foolbox's ImageNet samples, ``(1, 3, 224, 224)`` in [0, 1], and its label."""
    data = load_data("foolbox:imagenet")
    image = torch.from_numpy(data.images(ROW, ROW + 1)).float() / 255
    return image, torch.from_numpy(data.labels[ROW : ROW + 1])


def overview() -> Any:
    """An image, three adversarial ones and what was added."""
    model = load_model("efficientnet-lite0").foolbox
    x, y = photograph()
    attacks = {
        "Boundary Projection, 20 gradients": BoundaryProjectionAttack(steps=20),
        "DDN, 20 gradients, then Q_λ": Quantized(fb.attacks.DDNAttack(steps=20)),
        "smooth Boundary Projection": Quantized(SmoothBoundaryProjectionAttack(steps=20)),
    }
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
    show(axes[0, 0], x, f"original, class {int(y)}")
    axes[1, 0].axis("off")
    for (name, attack), column in zip(attacks.items(), axes.T[1:], strict=True):
        _, found, success = attack(model, x, y, epsilons=None)
        assert success.all(), name
        change = found - x
        seen = int(model(found).argmax(-1))
        show(column[0], found, f"{name}\nclass {seen}, L2 {float(change.norm()):.2f}, 8 bits")
        top = float(change.abs().max())
        show(column[1], 0.5 + change / (2 * top), f"perturbation, {0.5 / top:.0f} times")
    return figure


def smoothing() -> Any:
    """White noise, smoothed ever more by the image that guides it."""
    x, _ = photograph()
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    figure, axes = plt.subplots(1, 5, figsize=(14, 3.3), layout="constrained")
    show(axes[0], x, "x, the guide")
    for axis, alpha in zip(axes[1:], (0.0, 0.9, 0.99, 0.997), strict=True):
        r = GuidedSmoothing(x, alpha=alpha)(z)
        show(axis, 0.5 + r / (6 * r.std()), f"noise z, alpha = {alpha}" if alpha else "noise z")
    return figure


class Curved(nn.Module):
    """Two classes of points (u, v) in [0, 1]^2, with a curved boundary."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, 2)`` of points ``(N, 2)``."""
        lead = x[:, 1] - 0.62 - 0.16 * torch.sin(7 * x[:, 0] + 2)
        return torch.stack([-lead, lead], dim=1) * 10


def walk() -> Any:
    """The iterates of Boundary Projection on an image of two pixels."""
    network = Curved().eval()
    path: list[np.ndarray[Any, Any]] = []
    network.register_forward_hook(lambda _, given, __: path.append(given[0][0].detach().numpy()))
    model = fb.PyTorchModel(network, bounds=(0, 1), device="cpu")
    x, y = torch.tensor([[0.3, 0.2]]), torch.tensor([0])
    _, found, _ = BoundaryProjectionAttack(steps=20, levels=None)(model, x, y, epsilons=None)
    points = np.array(path[:-1])  # the last pass is Foolbox's own, on the result
    u, v = np.meshgrid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))
    grid = torch.from_numpy(np.stack([u.ravel(), v.ravel()], 1)).float()
    classes = network(grid).argmax(1).reshape(u.shape).numpy()
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    low, high = points.min(0) - 0.05, points.max(0) + 0.05
    for axis in axes:
        axis.contourf(u, v, classes, levels=1, colors=["#dfe7f5", "#f5e3df"])
        axis.plot(*points.T, "-o", color="#333333", markersize=3, linewidth=0.8)
        axis.plot(*x[0], "s", color="#1f5fbf", label="original")
        axis.plot(*found[0], "*", color="#bf3f1f", markersize=12, label="result")
        axis.set_xlabel("first pixel")
    distance = float((found - x).norm())
    circle = plt.Circle(x[0].tolist(), distance, fill=False, color="#bf3f1f", linestyle=":")
    axes[0].add_patch(circle)
    axes[0].set(xlim=(0, 1), ylim=(0, 1), ylabel="second pixel", title="the whole walk")
    axes[0].legend(loc="lower right")
    axes[1].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), title="closer")
    return figure


def quantisation() -> Any:
    """Distortion against margin of one adversarial, for all ways to the grid of 256 levels."""
    model = load_model("efficientnet-lite0").foolbox
    x, y = photograph()
    _, found, _ = fb.attacks.DDNAttack(steps=50)(model, x, y, epsilons=None)
    problem = Problem.of(model, ep.astensor(x), ep.astensor(y))
    box = problem.box(256)
    original, adversarial = rint(box.encode(problem.x)), box.encode(ep.astensor(found))
    _, gradient = value_and_gradient(problem.score(box), adversarial)
    quantizer = LagrangianQuantizer(original, adversarial, gradient)

    def measured(levels: Any) -> tuple[float, float]:
        _, _, margin = problem.score(box)(levels)
        return float(norm(levels - original).item()) / 255, float(margin.item())

    scale = 1 / float(gradient.abs().max().item())
    lambdas = scale * np.geomspace(0.1, 1e4, 30)
    curve = np.array([measured(quantizer(float(value))) for value in lambdas])
    marks = {
        "DDN-50, not digital": measured(adversarial),
        "R, rounded": measured(round_to_grid(original, adversarial)),
        "Q_0, towards the original": measured(quantizer(0.0)),
        "Q_∞, against the gradient": measured(quantizer(float("inf"))),
    }
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axis.axhspan(min(curve[:, 1].min(), -1) * 1.1, 0, color="#f5e3df")
    axis.plot(*curve.T, "-o", color="#333333", markersize=3, label="Q_λ, ever larger λ")
    for (name, point), marker in zip(marks.items(), "xs^v", strict=True):
        axis.plot(*point, marker, markersize=9, label=name)
    axis.set(xlabel="L2 distance from the original, [0, 1]", ylabel="margin; fooled below 0")
    axis.margins(0.05)
    axis.legend()
    return figure


def show(axis: Any, image: torch.Tensor, title: str) -> None:
    """Show the first of images ``(N, 3, H, W)`` in [0, 1]."""
    axis.imshow(image[0].clamp(0, 1).permute(1, 2, 0).numpy())
    axis.set_title(title, fontsize=9)
    axis.axis("off")


FIGURES = {
    "overview": overview,
    "smoothing": smoothing,
    "walk": walk,
    "quantisation": quantisation,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    for name in arguments.names or FIGURES:
        target = arguments.out / f"{name}.png"
        FIGURES[name]().savefig(target, dpi=80)
        print(target)
