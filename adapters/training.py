"""Train small networks, with a penalty on a layer if wanted; stop at any time and go on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foolart.adapters.weights import read_metadata, read_tensors, write_tensors
from foolart.plugins.blurnet import PENALTIES, penalty
from foolart.plugins.features import tapped
from foolart.plugins.guard import find, modes_kept

SCHEDULES = ("constant", "one-cycle")


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training came to, means over its batches.

    Attributes:
        number: The epoch, from 1.
        loss: Cross-entropy.
        penalty: The penalty, before its weight; 0 without one.
        accuracy: Share of images that were classified correctly when they were trained on.
        seconds: Its duration.
    """

    number: int
    loss: float
    penalty: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Training:
    """How a network is trained: cross-entropy plus ``alpha`` times a penalty on a layer.

    Args:
        epochs: Passes over the images.
        batch_size: Images of a step.
        learning_rate: Adam's; the largest one of ``"one-cycle"``.
        schedule: ``"constant"``, or ``"one-cycle"``: linear up for three tenths of the steps, then
            down along a cosine.
        penalty: One of :func:`foolart.plugins.blurnet.penalty`, or None.
        layer: The layer under the penalty.
        alpha: Weight of the penalty.
        seed: Of the order of images and of dropout; the global generators are put back.

    Raises:
        ValueError: If a parameter is out of range.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "constant"
    penalty: str | None = None
    layer: str | None = None
    alpha: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)!r}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"expected learning_rate > 0 and finite, got {self.learning_rate!r}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"expected schedule to be one of {SCHEDULES}, got {self.schedule!r}")
        if self.penalty is not None and self.penalty not in PENALTIES:
            raise ValueError(f"expected a penalty of {PENALTIES} or None, got {self.penalty!r}")
        if not (self.alpha >= 0 and math.isfinite(self.alpha)):
            raise ValueError(f"expected alpha >= 0 and finite, got {self.alpha!r}")
        if (self.penalty is None) != (self.layer is None):
            raise ValueError("expected a penalty with a layer, or neither")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        done, turn = (step + 1) / steps, 0.3
        if done < turn:
            return self.learning_rate * done / turn
        return self.learning_rate * (1 + math.cos(math.pi * (done - turn) / (1 - turn))) / 2


def fit(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    training: Training,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, Epoch | None], None] | None = None,
) -> list[Epoch]:
    """Train a network in place, on its own device.

    Args:
        network: Returns logits ``(N, C)``. Only parameters that require a gradient are trained. All
            its modules are in training mode meanwhile, and as they were afterwards.
        images: ``(N, ...)``, float as the network takes them, or uint8, which are divided by 255.
        labels: Classes ``(N,)``, of any integer dtype.
        training: How.
        optimizer: Another one than Adam with its usual constants; its learning rates are set.
        checkpoint: A ``.safetensors`` file, written after every epoch. If it is there, training
            goes on where it stopped, to the same weights as without the stop.
        progress: Called as ``progress(done, total, last_epoch)`` after every batch.

    Returns:
        All epochs, those before a stop included.

    Raises:
        ValueError: If images and labels do not fit, or the checkpoint is that of other training.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"expected as many labels as images, and at least one, got {len(labels)} and "
            f"{len(images)}"
        )
    trained = [p for p in network.parameters() if p.requires_grad]
    if optimizer is None:
        if not trained:
            raise ValueError("expected a network with parameters that require a gradient")
        optimizer = torch.optim.Adam(trained, lr=training.learning_rate)
    history = [] if checkpoint is None else _resume(checkpoint, network, optimizer, training)
    loop = _Loop(network, images, labels, training, optimizer)
    with modes_kept(network):
        while len(history) < training.epochs:
            history.append(loop.epoch(len(history), history[-1:], progress))
            if checkpoint is not None:
                _save(checkpoint, network, optimizer, training, history)
    return history


@dataclass(frozen=True)
class _Loop:
    network: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    training: Training
    optimizer: torch.optim.Optimizer

    def epoch(
        self,
        number: int,
        last: list[Epoch],
        progress: Callable[[int, int, Epoch | None], None] | None,
    ) -> Epoch:
        start, t = time.perf_counter(), self.training
        batches = math.ceil(len(self.images) / t.batch_size)
        # A seed of its own for every epoch: a stop between two leaves no trace.
        generator = torch.Generator().manual_seed(t.seed * 1_000_003 + number)
        order = torch.randperm(len(self.images), generator=generator)
        device = next(self.network.parameters()).device
        sums = torch.zeros(3, device=device)
        self.network.train()
        with _seeded(t.seed * 1_000_003 + number, device), self._penalty() as penalty_of:
            for i, rows in enumerate(torch.split(order, t.batch_size)):
                step = number * batches + i
                for group in self.optimizer.param_groups:
                    group["lr"] = t.rate(step, t.epochs * batches)
                x, y = self.images[rows].to(device), self.labels[rows].to(device).long()
                logits = self.network(x.float() / 255 if x.dtype == torch.uint8 else x)
                loss, extra = F.cross_entropy(logits, y), penalty_of()
                self.optimizer.zero_grad()
                torch.autograd.backward(loss if extra is None else loss + t.alpha * extra)
                self.optimizer.step()
                with torch.no_grad():
                    right = (logits.argmax(1) == y).float().mean()
                    terms = [loss, loss * 0 if extra is None else extra, right]
                    sums += torch.stack(terms) * len(rows)
                if progress is not None:
                    progress(step + 1, t.epochs * batches, last[0] if last else None)
        loss_, penalty_, accuracy = (sums / len(self.images)).tolist()
        return Epoch(number + 1, loss_, penalty_, accuracy, time.perf_counter() - start)

    @contextmanager
    def _penalty(self) -> Iterator[Callable[[], torch.Tensor | None]]:
        name, layer = self.training.penalty, self.training.layer
        if name is None or layer is None:
            yield lambda: None
            return
        module = find(self.network, layer)
        with tapped(self.network, layer) as maps:
            yield lambda: penalty(name, module, maps())


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _save(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Training,
    history: list[Epoch],
) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    metadata = {
        "training": json.dumps(asdict(training)),
        "history": json.dumps([asdict(epoch) for epoch in history]),
    }
    write_tensors(tensors, path, metadata)


def _resume(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, training: Training
) -> list[Epoch]:
    if path.suffix != ".safetensors":
        raise ValueError(f"checkpoint {path}: expected a .safetensors file")
    if not path.exists():
        return []
    tensors, metadata = read_tensors(path), read_metadata(path)
    then = json.loads(metadata.get("training", "{}"))
    changed = [
        f"{name} was {then.get(name)!r} and is {value!r}"
        for name, value in asdict(training).items()
        if then.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"checkpoint {path} is of other training: {', '.join(changed)}. Give the same options "
            "to go on, or another file to start anew"
        )
    weights: dict[str, torch.Tensor] = {}
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "network":
            weights[rest] = tensor
        else:
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = tensor
    try:
        network.load_state_dict(weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"checkpoint {path} is of another network: {error}") from error
    return [Epoch(**epoch) for epoch in json.loads(metadata["history"])]
