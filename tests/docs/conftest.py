"""What the pages take for granted: a reader's network, images and labels, and a small model zoo."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")


class Few(torch.nn.Module):
    """A thousand classes from four averages: for images of any size, in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d(2)
        self.head = torch.nn.Linear(12, 1000)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(1000, 12, generator=generator) * 20)

    def forward(self, x: Any) -> Any:
        return self.head(self.pool(x).flatten(1))


@pytest.fixture
def small_zoo(monkeypatch):
    """EfficientNet-Lite0 by name is a tiny network, and Foolbox's samples are what it sees."""
    import foolbox
    import numpy as np

    from foolart.evaluation import data, models

    network = Few().eval()

    def tiny() -> models.Network:
        return models.Network(network, mean=127 / 255, std=128 / 255)

    monkeypatch.setitem(models.NAMED, "efficientnet-lite0", tiny)
    monkeypatch.setattr(models, "efficientnet_lite0", tiny)
    small = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    # Every other image is labelled as the network sees it.
    seen = network((torch.from_numpy(small).float() - 127) / 128).argmax(1).numpy()
    labels = np.where(np.arange(20) % 2 == 0, seen, (seen + 1) % 1000)

    def samples(fmodel: Any, dataset: str, batchsize: int, **kwargs: Any) -> Any:
        images = torch.from_numpy(small[:batchsize]).float() / 255
        return images, torch.from_numpy(labels[:batchsize])

    monkeypatch.setattr(foolbox.utils, "samples", samples)
    monkeypatch.setattr(
        data,
        "_foolbox",
        lambda name, size=32: data.Arrays(f"foolbox:{name}", small, labels),
    )
    return network


@pytest.fixture
def reader(digits) -> dict[str, Any]:
    """The names that pages leave to the reader: a model, images and labels of one's own."""
    import copy

    import foolbox
    import numpy as np

    # A page may train, prune or defend what it was given.
    network = copy.deepcopy(digits.net)
    names: dict[str, Any] = {
        "foolbox": foolbox,
        "np": np,
        "torch": torch,
        "network": network,
        "model": network,
        "fmodel": foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu"),
        "images": digits.images[:4].clone(),
        "labels": digits.labels[:4].clone(),
        "x": digits.images[:4].numpy().copy(),
        "y": digits.labels[:4].numpy().copy(),
    }
    try:
        from art.estimators.classification import PyTorchClassifier
    except ImportError:
        return names
    names["classifier"] = PyTorchClassifier(
        model=network,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(0.0, 1.0),
    )
    return names
