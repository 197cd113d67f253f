"""A small network on 8x8 digits, as an ART classifier with and without defences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")

from art.estimators.classification import PyTorchClassifier  # noqa: E402


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits as 8-bit images (N, 1, 8, 8) in [0, 1], and their labels."""
    images, labels = datasets.load_digits(return_X_y=True)
    return (np.rint(images.reshape(-1, 1, 8, 8) / 16 * 255) / 255).astype(np.float32), labels


@pytest.fixture(scope="session")
def trained(digits: tuple[np.ndarray, np.ndarray]) -> Any:
    """A network with batch norm and dropout, in evaluation mode. Do not change it: copy it."""
    images, labels = map(torch.from_numpy, digits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(288, 10),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for i in range(60):
            rows = torch.arange(i * 64, (i + 1) * 64) % len(images)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def batch(digits: tuple[np.ndarray, np.ndarray], trained: Any) -> tuple[np.ndarray, np.ndarray]:
    """Eight digits that the network classifies correctly."""
    images, labels = digits
    with torch.no_grad():
        right = trained(torch.from_numpy(images[:32])).argmax(1).numpy() == labels[:32]
    return images[:32][right][:8], labels[:32][right][:8]


@pytest.fixture
def classify(trained: Any) -> Callable[..., PyTorchClassifier]:
    """Build a classifier of the network; keyword arguments are those of PyTorchClassifier."""

    def build(*defences: Any, **kwargs: Any) -> PyTorchClassifier:
        arguments = {
            "loss": torch.nn.CrossEntropyLoss(),
            "input_shape": (1, 8, 8),
            "nb_classes": 10,
            "clip_values": (0.0, 1.0),
            "preprocessing_defences": list(defences) or None,
            "device_type": "cpu",
        }
        return PyTorchClassifier(trained, **{**arguments, **kwargs})

    return build
