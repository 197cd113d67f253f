"""Train the papers' small networks: ``foolart train``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from foolart.adapters.training import Epoch, Training, fit
from foolart.adapters.weights import save_weights
from foolart.evaluation.data import load_data
from foolart.evaluation.models import usable
from foolart.evaluation.networks import build
from foolart.evaluation.specs import Spec
from foolart.plugins.blurnet import DepthwiseBlur
from foolart.plugins.features import feature_maps, first_convolution
from foolart.plugins.guard import guard

ROWS = 256


def prepare(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    *,
    penalty: str | None = None,
    layer: str | None = None,
    size: int = 5,
    seed: int = 0,
) -> tuple[nn.Module, str | None]:
    """A network with fresh weights, and the layer that a penalty is on.

    Args:
        name: One of :data:`foolart.evaluation.networks.NETWORKS`.
        shape: Of an image, ``(C, H, W)``.
        classes: Number of classes.
        penalty: One of :data:`foolart.plugins.blurnet.PENALTIES`, or None. ``"linf"`` inserts a
            trainable blur after the layer.
        layer: The layer; the first convolution by default.
        size: Of the trainable blur.
        seed: Of the weights; the global generators are put back.

    Raises:
        ValueError: For an unknown name or layer, or images that the network does not take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(name, classes=classes)
    where = first_convolution(network) if layer is None else layer
    try:
        with torch.no_grad():
            maps = feature_maps(network, where, torch.zeros(1, *shape))
            network(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise ValueError(
            f"network {name} does not take images of shape {shape}: {error}"
        ) from error
    if penalty == "linf":
        return guard(network, {where: DepthwiseBlur(maps.shape[1], size)}), f"{where}.defence"
    return network, None if penalty is None else where


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of uint8 images that a network classifies correctly, in evaluation mode."""
    mode, device = network.training, next(network.parameters()).device
    network.eval()
    right = 0
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(images)), ROWS):
            predicted = network(images[rows].to(device).float() / 255).argmax(1)
            right += int((predicted.cpu() == labels[rows]).sum())
    network.train(mode)
    return right / len(images)


def load_arrays(what: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a data set, uint8 ``(N, C, H, W)``, and their labels.

    Raises:
        ValueError: If there is no such data set, it cannot be read, or a label is below 0.
    """
    data = load_data(Spec.of(what, "data"))
    if data.labels.min() < 0:
        raise ValueError(f"data {what}: expected labels from 0 on, got {data.labels.min()}")
    return torch.tensor(data.images(0, len(data))), torch.tensor(data.labels)


def train_command(
    network: Annotated[str, typer.Argument(help="lisa-cnn, c4, c9, resnet8 or resnet20.")],
    data: Annotated[
        str, typer.Option(help='E.g. "gtsrb.npz(images=train_images, labels=train_labels)".')
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Weights to write, *.safetensors.")],
    test: Annotated[str | None, typer.Option(help="Data to report the accuracy on.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images of a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's; the largest of one-cycle.")] = 1e-3,
    schedule: Annotated[str, typer.Option(help="constant or one-cycle.")] = "constant",
    penalty: Annotated[str | None, typer.Option(help="BlurNet's tv or linf, or tikhonov.")] = None,
    alpha: Annotated[float, typer.Option(help="Weight of the penalty.")] = 0.0,
    layer: Annotated[
        str | None, typer.Option(help="Under the penalty; conv. 1 by default.")
    ] = None,
    size: Annotated[int, typer.Option(help="Kernel of the blur that linf trains.")] = 5,
    seed: Annotated[int, typer.Option(help="Of weights, order of images and dropout.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train one of the papers' networks; called again, an interrupted training goes on."""
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: expected a name that ends in .safetensors")
    if (penalty is None) != (alpha == 0) or (penalty is None and layer is not None):
        raise ValueError(
            f"--penalty {penalty}, --alpha {alpha:g}, --layer {layer}: give a penalty together "
            "with an alpha above 0, such as --penalty tv --alpha 1e-4, or none of the three"
        )
    images, labels = load_arrays(data)
    held = None if test is None else load_arrays(test)
    shape, classes = tuple(images.shape[1:]), int(labels.max()) + 1
    if held is not None and (held[0].shape[1:] != shape or int(held[1].max()) >= classes):
        raise ValueError(f"test data {test} have other images or classes than {data}")
    module, penalised = prepare(
        network, shape, classes, penalty=penalty, layer=layer, size=size, seed=seed
    )
    training = Training(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        penalty=penalty,
        layer=penalised,
        alpha=alpha,
        seed=seed,
    )
    with usable(device):
        module.to(device)
    checkpoint = out.with_name(f"{out.stem}.checkpoint.safetensors")
    with _bar() as report:
        history = fit(module, images, labels, training, checkpoint=checkpoint, progress=report)
    save_weights(module, out)
    checkpoint.unlink(missing_ok=True)
    last = history[-1]
    typer.echo(f"training: loss {last.loss:.4f}, accuracy {last.accuracy:.4f}")
    if held is not None:
        typer.echo(f"test: accuracy {accuracy(module, *held):.4f}")
    typer.echo(f"wrote {out}")


@contextmanager
def _bar() -> Iterator[Callable[[int, int, Epoch | None], None]]:
    """A progress bar that :func:`fit` can report to."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("training", total=None)

        def tell(done: int, total: int, last: Epoch | None) -> None:
            text = "training" if last is None else f"epoch {last.number}: loss {last.loss:.3f}"
            bar.update(task, completed=done, total=total, description=text)

        yield tell
