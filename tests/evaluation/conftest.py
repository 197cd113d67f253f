"""A small network and its images, by name, as scenarios name them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

COUNT = 9


@pytest.fixture(scope="session")
def digits_files(digits, tmp_path_factory):
    """The folder with ``net.pt`` and ``digits.npz`` of which one image is misclassified."""
    folder = tmp_path_factory.mktemp("digits")
    torch.jit.trace(digits.net, digits.images[:2]).save(str(folder / "net.pt"))
    labels = digits.labels[:COUNT].numpy().copy()
    labels[2] = (labels[2] + 1) % 10
    images = (digits.images[:COUNT] * 255).round().to(torch.uint8).numpy()
    np.savez(folder / "digits.npz", images=images[:, 0], labels=labels)
    return folder


@pytest.fixture
def table(digits_files):
    """Makes a scenario's table around the small network."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "models": [{"name": str(digits_files / "net.pt"), "label": "net"}],
            "data": [{"name": str(digits_files / "digits.npz"), "label": "digits"}],
            "attacks": ["ddn(steps=5)"],
            "compute_batch": 4,
            "threads": 1,
            **changes,
        }

    return make
