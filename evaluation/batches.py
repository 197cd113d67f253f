"""The rows that an attack works on at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import foolbox
import torch

from foolart.evaluation.catalogue import BuiltAttack
from foolart.evaluation.models import LoadedModel
from foolart.evaluation.pixels import to_inputs
from foolart.evaluation.randomness import row_seed
from foolart.evaluation.tables import Table


@dataclass(frozen=True)
class Batch:
    """Some rows of a table as inputs, padded to a fixed number.

    Float rounding depends on the number of rows in a pass, but not on what the other rows hold:
    with a fixed number, an image's result does not depend on its company.

    Attributes:
        model: The model under attack.
        attack: The attack.
        rows: Rows of the table; fewer than the inputs have, if they are padded.
        x: Inputs ``(B, C, H, W)``.
        y: Labels ``(B,)``.
        seed: The run's seed.
        seeds: One seed for each row.
    """

    model: LoadedModel
    attack: BuiltAttack
    rows: list[int]
    x: torch.Tensor
    y: torch.Tensor
    seed: int
    seeds: list[int]

    @classmethod
    def of(
        cls, model: LoadedModel, attack: BuiltAttack, table: Table, rows: list[int], size: int
    ) -> Batch:
        """Some rows of a table, padded to ``size`` by repeating the first."""
        padded = rows + [rows[0]] * (size - len(rows))
        x = to_inputs(table.images[padded], model.device)
        y = torch.tensor([table.labels[k] for k in padded], device=model.device)
        seed = table.unit.seed
        seeds = [row_seed(seed, table.hashes[k]) for k in padded]
        return cls(model, attack, rows, x, y, seed, seeds)

    def split(self, size: int) -> Iterator[tuple[int, Batch]]:
        """The same rows in batches of another size, each with the place of its first row."""
        for k in range(0, len(self.rows), size):
            own = slice(k, k + size)
            x, y, seeds = self.x[own], self.y[own], self.seeds[own]
            yield k, replace(self, rows=self.rows[own], x=x, y=y, seeds=seeds)

    @property
    def criterion(self) -> Any:
        """What is looked for."""
        return foolbox.criteria.Misclassification(self.y)
