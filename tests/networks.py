"""Models that tests attack: a linear one with known distances, and a small trained one."""

from __future__ import annotations

from dataclasses import dataclass

import foolbox
import numpy as np
import pytest

torch = pytest.importorskip("torch")


@dataclass(frozen=True)
class Linear:
    """A linear model on 8-bit images, whose distances to the boundary are known exactly."""

    weight: torch.Tensor  # (2, C * H * W)
    bias: torch.Tensor  # (2,)
    images: torch.Tensor  # (N, C, H, W), in [0, 1] on the 8-bit grid, far from saturation
    labels: torch.Tensor

    @classmethod
    def make(cls, n: int = 6, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> Linear:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(96, 160, (n, *shape), generator=generator) / 255
        weight = torch.randn(2, images[0].numel(), generator=generator)
        bias = torch.zeros(2)
        labels = (images.flatten(1) @ weight.T).argmax(dim=1)
        return cls(weight, bias, images, labels)

    def distances(self) -> torch.Tensor:
        """L2 distances to the boundary, inputs in [0, 1]."""
        normal = self.weight[0] - self.weight[1]
        margin = self.images.flatten(1) @ normal + self.bias[0] - self.bias[1]
        return margin.abs() / normal.norm()

    def model(self, bounds: tuple[float, float] = (0, 1)) -> foolbox.PyTorchModel:
        """The same classifier for inputs within other bounds."""
        lower, upper = bounds
        layer = torch.nn.Linear(self.weight.shape[1], 2)
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)
        net = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
        span = upper - lower
        preprocessing = {"mean": [float(lower)], "std": [float(span)]}
        return foolbox.PyTorchModel(net, bounds=bounds, device="cpu", preprocessing=preprocessing)

    def images_in(self, bounds: tuple[float, float]) -> torch.Tensor:
        lower, upper = bounds
        return (self.images * 255).round() * (upper - lower) / 255 + lower


@dataclass(frozen=True)
class Digits:
    """A small convolutional network trained on scikit-learn's digits, and images it classifies."""

    net: torch.nn.Module
    images: torch.Tensor  # (N, 1, 8, 8) in [0, 1] on the 8-bit grid, all correctly classified
    labels: torch.Tensor

    def model(self, bounds: tuple[float, float] = (0, 1)) -> foolbox.PyTorchModel:
        lower, upper = bounds
        preprocessing = {"mean": [float(lower)], "std": [float(upper - lower)]}
        return foolbox.PyTorchModel(
            self.net, bounds=bounds, device="cpu", preprocessing=preprocessing
        )

    def images_in(self, bounds: tuple[float, float]) -> torch.Tensor:
        lower, upper = bounds
        return (self.images * 255).round() * (upper - lower) / 255 + lower


def train_digits(n: int = 16, epochs: int = 12, seed: int = 0) -> Digits:
    """Train in about a second; the same weights every time."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images / 16 * 255).astype(np.float32) / 255
    images, labels = torch.from_numpy(pixels)[:, None], torch.from_numpy(data.target).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, padding=1, stride=2),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 16, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(epochs):
            for batch in torch.randperm(1500).split(100):
                loss = torch.nn.functional.cross_entropy(net(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    net.eval().requires_grad_(False)
    correct = (net(images[1500:]).argmax(dim=1) == labels[1500:]).nonzero().flatten()[:n] + 1500
    return Digits(net, images[correct], labels[correct])
