"""``foolart inspect-layers`` and ``foolart codebook``: a look inside, and what to defend with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from foolart.adapters.weights import write_bytes
from foolart.evaluation.catalogue import build_attack
from foolart.evaluation.data import Part, load_data
from foolart.evaluation.defences import defended
from foolart.evaluation.inspection import Inspection, activations, inspect_layers
from foolart.evaluation.models import DEFAULT_MODEL, load_model, usable
from foolart.evaluation.specs import Spec
from foolart.plugins.guard import INPUT

BATCH = 10
console = Console(stderr=True)


def inspect_layers_command(
    data: Annotated[str, typer.Option(help="See `foolart evaluate`; e.g. foolbox:imagenet.")],
    model: Annotated[str, typer.Option(help="See `foolart list models`.")] = DEFAULT_MODEL,
    attack: Annotated[str, typer.Option(help="See `foolart list attacks`.")] = "ddn(steps=20)",
    defence: Annotated[
        str | None, typer.Option(help="See `foolart list defences`; none by default.")
    ] = None,
    noise: Annotated[float, typer.Option(help="Variance of the noise, on [0, 1].")] = 0.05,
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="A layer; repeat for more.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A JSON file to write.")] = None,
) -> None:
    """Compare how adversarial and random perturbations grow from layer to layer."""
    if out is not None:
        _check_folder(out)
    loaded = load_model(Spec.of(model, "model"), device)
    part = load_data(Spec.of(data, "data"))
    behind = None if defence is None else defended(loaded, Spec.of(defence, "defence")).defended
    built = build_attack(Spec.of(attack, "attack"))
    if not noise >= 0:
        raise ValueError(f"expected noise >= 0, a variance, got {noise}")
    generator = torch.Generator(device).manual_seed(seed)

    def adversarial(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        right: torch.Tensor = loaded.foolbox(x).argmax(1) == labels
        found = x.clone()
        if bool(right.any()):
            _, clipped, _ = built.attack(
                loaded.foolbox, x[right], labels[right], epsilons=built.epsilon
            )
            found[right] = clipped
        return found

    def random(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(x.shape, generator=generator, device=x.device)
        return torch.clamp(x + drawn * noise**0.5, 0, 1)

    with _bar("inspecting", len(part)) as tell:
        found = inspect_layers(
            loaded.foolbox,
            _labelled(part, device),
            {"adversarial": adversarial, "noise": random},
            layers=layers,
            defended=behind,
            progress=tell,
        )
    Console().print(_curves(found))
    Console().print(_predictions(found))
    if out is not None:
        write_bytes((json.dumps(found.as_json(), indent=1) + "\n").encode(), out)


def codebook_command(
    data: Annotated[str, typer.Option(help="Clean images; see `foolart evaluate`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The safetensors file to write.")],
    codewords: Annotated[int, typer.Option("--codewords", "-K", help="Of a slice.")] = 3927,
    patch: Annotated[int, typer.Option(help="Side of the patches.")] = 3,
    depth: Annotated[int, typer.Option(help="Channels of a slice.")] = 1,
    stride: Annotated[
        int | None, typer.Option(help="Step between patches; their side by default.")
    ] = None,
    universal: Annotated[bool, typer.Option(help="One codebook for all slices.")] = False,
    method: Annotated[str, typer.Option(help="kmeans, minibatch or sample.")] = "kmeans",
    points: Annotated[int | None, typer.Option(help="Patches of a slice to learn from.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Passes over them.")] = None,
    layer: Annotated[str, typer.Option(help="Whose output to learn.")] = INPUT,
    model: Annotated[str, typer.Option(help="The network of that layer.")] = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Learn the codebook of patch replacement from clean images, outside of the test set."""
    from foolart.plugins.codebook import ProductQuantizer

    part = load_data(Spec.of(data, "data"))
    _check_folder(out)
    batches = (x for x, _ in _labelled(part, device))
    if layer != INPUT:
        loaded = load_model(Spec.of(model, "model"), device)
        batches = (activations(loaded.foolbox, x, [layer])[0][layer] for x in batches)
    with _bar("reading images", len(part)) as tell:
        codebook = ProductQuantizer.fit(
            batches,
            codewords,
            patch=patch,
            depth=depth,
            stride=patch if stride is None else stride,
            universal=universal,
            method=method,
            points=points,
            iterations=iterations,
            seed=seed,
            device=device,
            progress=lambda stage, done, total: tell(done, total, f"learning {stage}"),
        )
    codebook.save(out)
    typer.echo(f"wrote {out}: {codebook.extra_repr()}")


def _check_folder(out: Path) -> None:
    if not out.parent.is_dir():
        raise ValueError(f"folder {out.parent} does not exist: make it, or choose another --out")


def _labelled(part: Part, device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    with usable(device):
        torch.empty(0, device=device)
    for start in range(0, len(part), BATCH):
        stop = min(start + BATCH, len(part))
        images = torch.tensor(part.images(start, stop), device=device)
        yield images.float() / 255, torch.as_tensor(part.labels[start:stop]).to(device)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def tell(done: int, of: int | None = None, now: str | None = None) -> None:
            bar.update(task, completed=done, total=of or total, description=now)

        yield tell


def _curves(found: Inspection) -> Table:
    table = Table(title=f"relative distortion, {found.images} images", padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    for name in found.distortion:
        table.add_column(name, justify="right", overflow="fold")
    for k, layer in enumerate(found.layers):
        table.add_row(layer, *(f"{values[k]:.3f}" for values in found.distortion.values()))
    return table


def _predictions(found: Inspection) -> Table:
    table = Table("images", "entropy (nats)", "accuracy")
    for name, entropy in found.entropy.items():
        table.add_row(name, f"{entropy:.2f}", f"{100 * found.accuracy[name]:.1f} %")
    return table
