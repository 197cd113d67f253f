"""Tiny models with known behaviour, and images for them."""

from __future__ import annotations

from typing import Any

import foolbox as fb
import numpy as np
import pytest

SHAPE = (3, 32, 32)
CLASSES = 40


def images(count: int, bounds: tuple[float, float] = (0, 1), levels: int = 256, seed: int = 0):
    """Images on the grid, some of their elements at the bounds, as float32 arrays."""
    k = np.random.default_rng(seed).normal(0.5, 0.25, (count, *SHAPE)).clip(0, 1)
    k = np.round(k * (levels - 1)) / (levels - 1)
    return (bounds[0] + k * (bounds[1] - bounds[0])).astype(np.float32)


def weights(seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    n = int(np.prod(SHAPE))
    return [
        rng.normal(0, 1 / np.sqrt(n), (n, 64)).astype(np.float32),
        rng.normal(0, 1 / 8, (64, CLASSES)).astype(np.float32),
    ]


class Counter:
    """How often a network was called."""

    calls = 0


def torch_network(
    count: int,
    bounds: tuple[float, float] = (0, 1),
    probabilities: bool = False,
    levels: int = 256,
    wrong: int = 0,
) -> tuple[Any, Any, Any, Counter]:
    """A smooth two-layer network: its Foolbox model, images, labels and a counter of its calls.

    The labels are the model's own predictions, but for the first ``wrong`` images.
    """
    torch = pytest.importorskip("torch")
    w1, w2 = (torch.from_numpy(w) for w in weights())

    class Network(torch.nn.Module):
        def forward(self, x):
            counter.calls += 1
            x = ((x - bounds[0]) / (bounds[1] - bounds[0])).flatten(1)
            z = torch.tanh(4 * (x - 0.5) @ w1) @ w2 * 4
            return torch.softmax(z, -1) if probabilities else z

    counter = Counter()
    model = fb.PyTorchModel(Network().eval(), bounds=bounds, device="cpu")
    x = torch.from_numpy(images(count, bounds, levels))
    labels = model(x).argmax(-1)
    labels[:wrong] = (labels[:wrong] + 1) % CLASSES
    counter.calls = 0
    return model, x, labels, counter


def jax_network(count: int) -> tuple[Any, Any, Any]:
    """The same network in JAX."""
    jnp = pytest.importorskip("jax.numpy")
    w1, w2 = (jnp.asarray(w) for w in weights())

    def network(x):
        return jnp.tanh(4 * (x.reshape((len(x), -1)) - 0.5) @ w1) @ w2 * 4

    model = fb.JAXModel(network, bounds=(0, 1))
    x = jnp.asarray(images(count))
    return model, x, model(x).argmax(-1)
