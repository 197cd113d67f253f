"""The same two networks, and the same images, in each framework that Foolbox's attacks run in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import foolbox
import numpy as np
import pytest

FRAMEWORKS = ("pytorch", "jax", "tensorflow")
SHAPE = (3, 8, 8)
CLASSES = 6
DISTANCE = 1.0  # of the images' mean to the boundary of the linear network


@dataclass(frozen=True)
class Case:
    """A network in a framework, and images that it classifies as their labels say."""

    model: foolbox.models.Model
    images: Any
    labels: Any


def pixels(count: int = 4) -> np.ndarray:
    """Images on the 8-bit grid, far from saturation."""
    levels = np.random.default_rng(0).integers(96, 160, (count, *SHAPE))
    return levels.astype(np.float32) / np.float32(255)


def normal() -> np.ndarray:
    """What the margin of the linear network falls along, ``(3, 8, 8)``."""
    return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


def distances(images: np.ndarray) -> np.ndarray:
    """To the boundary of the linear network, in L2, of ``(N, 3, 8, 8)``."""
    along = (images - pixels().mean(axis=0)).reshape(len(images), -1) @ normal().ravel()
    return along / np.linalg.norm(normal()) + DISTANCE


def framework(name: str) -> tuple[Callable[[np.ndarray], Any], Callable[..., Any], Any]:
    """How to make a tensor and a Foolbox model of a framework, and its tanh."""
    if name == "pytorch":
        torch = pytest.importorskip("torch")

        def model(network: Any, **arguments: Any) -> Any:
            class Module(torch.nn.Module):
                def forward(self, x: Any) -> Any:
                    return network(x)

            return foolbox.PyTorchModel(Module().eval(), device="cpu", **arguments)

        return torch.from_numpy, model, torch.tanh
    if name == "jax":
        jnp = pytest.importorskip("jax.numpy")
        return jnp.asarray, foolbox.JAXModel, jnp.tanh
    tf = pytest.importorskip("tensorflow")
    return tf.constant, foolbox.TensorFlowModel, tf.tanh


@cache
def case(name: str, kind: str) -> Case:
    """The ``"linear"`` network with two classes, or a ``"smooth"`` one with more of them."""
    tensor, model, tanh = framework(name)
    images, size = pixels(), int(np.prod(SHAPE))
    rng = np.random.default_rng(2)
    if kind == "linear":
        weight = np.stack([normal().ravel() / 2, -normal().ravel() / 2], axis=1)
        lead = distances(images) * np.linalg.norm(normal())
        bias = (lead - images.reshape(len(images), -1) @ normal().ravel()).mean()
        parameters = [weight, np.array([bias / 2, -bias / 2], np.float32)]
        labels = np.zeros(len(images), np.int64)
    else:
        inner = rng.normal(0, 8 / np.sqrt(size), (size, 24)).astype(np.float32)
        outer = rng.normal(size=(24, CLASSES)).astype(np.float32)
        parameters = [inner, outer]
        hidden = np.tanh((images - 0.5).reshape(len(images), -1) @ inner)
        labels = (hidden @ outer).argmax(axis=1)
    first, second = map(tensor, parameters)

    def network(x: Any) -> Any:
        if name == "tensorflow":
            import tensorflow as tf

            flat = tf.reshape(x, (len(x), size))
        else:
            flat = x.reshape((len(x), size))
        return flat @ first + second if kind == "linear" else tanh((flat - 0.5) @ first) @ second

    # Foolbox's other models know their layout: PyTorch's by itself, TensorFlow's by a setting.
    layout = {"data_format": "channels_first"} if name == "jax" else {}
    return Case(model(network, bounds=(0, 1), **layout), tensor(images), tensor(labels))
