"""Bringing adversarials to 8 bits, and judging them on exactly the stored pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import eagerpy as ep
import foolbox
import torch

from foolart.evaluation.batches import Batch
from foolart.evaluation.catalogue import quantized
from foolart.evaluation.counting import CountingModel
from foolart.evaluation.models import LoadedModel
from foolart.evaluation.pixels import check_images, distances, to_inputs, to_pixels
from foolart.evaluation.plan import Unit
from foolart.evaluation.randomness import seeded_rows
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.sources import Images
from foolart.evaluation.store import Store, slug
from foolart.evaluation.tables import Table, Verdict

TOLERANCE = 1e-5  # how far outside the bounds float noise may carry a pixel


class Judge:
    """Fills a table with verdicts, and the results folder with the images they are about.

    Args:
        scenario: The scenario.
        store: The results folder.
    """

    def __init__(self, scenario: Scenario, store: Store) -> None:
        self.scenario, self.store = scenario, store

    @torch.no_grad()
    def predict(self, model: LoadedModel, images: Images, size: int | None = None) -> list[int]:
        """The model's classes for images ``(N, C, H, W)``, in passes of ``size`` rows."""
        size = size or self.scenario.compute_batch
        predictions: list[int] = []
        for k in range(0, len(images), size):
            rows = list(range(k, min(k + size, len(images))))
            padded = rows + [rows[0]] * (size - len(rows))
            outputs = model.foolbox(to_inputs(images[padded], model.device))
            predictions += outputs.argmax(1)[: len(rows)].tolist()
        return predictions

    def sound(self, batch: Batch, found: torch.Tensor, table: Table) -> torch.Tensor:
        """Flag what is wrong with an attack's images, and mend it as far as a judge can."""
        finite = torch.isfinite(found).flatten(1).all(1)
        black = (found == 0).flatten(1).all(1) & (batch.x != 0).flatten(1).any(1)
        beyond = ((found < -TOLERANCE) | (found > 1 + TOLERANCE)).flatten(1).any(1)
        columns = (column.tolist() for column in (finite, black, beyond))
        for k, whole, zero, out in zip(batch.rows, *columns, strict=False):
            if not whole:
                table.broken[k] = "returned NaN or infinite pixels"
            table.flags[k] = ["all-zero image"] * zero + ["left the bounds"] * out
        finite = finite.reshape(-1, *[1] * (found.ndim - 1))
        return torch.where(finite, found, batch.x).clamp(0, 1)

    @torch.no_grad()
    def raw(self, batch: Batch, adversarial: torch.Tensor, table: Table) -> torch.Tensor:
        """Judge float images as they are.

        Returns:
            Which are adversarial, ``(B,)``.
        """
        predictions = batch.model.foolbox(adversarial).argmax(1)
        delta = (adversarial - batch.x).flatten(1)
        columns = (predictions, delta.norm(dim=1), delta.abs().amax(1))
        for k, *found in zip(batch.rows, *(column.tolist() for column in columns), strict=False):
            table.verdicts["raw", k] = Verdict(*found)
        success: torch.Tensor = predictions != batch.y
        return success

    def digital(
        self,
        variant: str,
        batch: Batch,
        adversarial: torch.Tensor,
        success: torch.Tensor,
        table: Table,
    ) -> None:
        """Bring images to 8 bits, store those that fool the model, and judge what is stored."""
        if variant == "rounded":
            self._stored(variant, batch, adversarial, table)
            return
        # The search for lambda goes on until its slowest image is done. On the CPU, where images in
        # a batch cost as much as one by one, each pays for its own search only.
        size = 1 if batch.x.device.type == "cpu" else len(batch.x)
        for k, part in batch.split(size):
            own = slice(k, k + size)
            given = Given(batch.attack.attack, adversarial[own], success[own])
            model = CountingModel(batch.model.foolbox, part.x, part.y, anytime=False)
            try:
                with seeded_rows(part.seed, part.seeds):
                    found = quantized(given, variant)(
                        model, part.x.clone(), part.criterion, epsilons=None
                    )[1]
                found = check_images(found, part.x)
            except (MemoryError, torch.cuda.OutOfMemoryError):
                raise
            except Exception as error:
                table.breaks(error, part.rows, variant)
                continue
            for row, *counts in zip(part.rows, *model.counts(), strict=False):
                table.extra[variant, row] = (counts[0], counts[1])
            self._stored(variant, part, found, table)

    def _stored(self, variant: str, batch: Batch, images: torch.Tensor, table: Table) -> None:
        pixels = to_pixels(images[: len(batch.rows)])
        predictions = self.predict(batch.model, pixels, size=len(batch.x))
        for k, image, prediction in zip(batch.rows, pixels, predictions, strict=True):
            file = ""
            if prediction != table.labels[k] and self.scenario.images == "all":
                name = self._name(table.unit, variant, table.unit.start + k)
                file = self.store.write_png(name, image)
            found_at = distances(image, table.images[k])
            table.verdicts[variant, k] = Verdict(prediction, *found_at, file)

    def originals(self, unit: Unit, table: Table) -> None:
        """Store the originals of a unit, unless another one did."""
        if self.scenario.images == "none":
            return
        for k, image in enumerate(table.images):
            name = slug("original", self.scenario.data[unit.data].label, f"{unit.start + k:05d}")
            path = f"images/{name}.png"
            there = (self.store.folder / path).exists()
            table.originals[k] = path if there else self.store.write_png(name, image)

    def _name(self, unit: Unit, variant: str, image: int) -> str:
        scenario = self.scenario
        return slug(
            scenario.data[unit.data].label if len(scenario.data) > 1 else "",
            scenario.models[unit.model].label,
            scenario.defences[unit.defence].label if unit.defence >= 0 else "",
            "" if unit.threat in ("white-box", "decision") else unit.threat,
            scenario.attacks[unit.attack].label,
            variant,
            f"seed{unit.seed}" if len(scenario.seeds) > 1 else "",
            f"{image:05d}",
        )


class Given(foolbox.attacks.base.AttackWithDistance):
    """An attack whose answer is known already, so that a wrapper can work on it.

    Args:
        attack: The attack that gave it.
        images: The answer, ``(N, ...)``.
        success: Which of it are adversarial, ``(N,)``.
    """

    def __init__(self, attack: Any, images: torch.Tensor, success: torch.Tensor) -> None:
        self.attack, self.images, self.success = attack, images, success

    @property
    def distance(self) -> Any:
        """The distance of the attack."""
        return self.attack.distance

    def __call__(
        self, model: Any, inputs: Any, criterion: Any, *, epsilons: Any, **kwargs: Any
    ) -> Any:
        """The answer, in the form that Foolbox's attacks give it: a list for a list of epsilons."""
        del model, criterion, kwargs
        _, restore_type = ep.astensor_(inputs)
        images, success = restore_type(ep.astensor(self.images)), ep.astensor(self.success)
        if not isinstance(epsilons, Iterable):
            return images, images, restore_type(success)
        same = [images for _ in epsilons]
        return same, same, restore_type(ep.stack([success for _ in same]))
