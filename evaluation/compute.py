"""Computing one work unit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foolart.evaluation.adaptive import attacked, gradient_missing
from foolart.evaluation.batches import Batch
from foolart.evaluation.catalogue import build_attack
from foolart.evaluation.counting import BudgetExhausted, CountingModel
from foolart.evaluation.data import Part
from foolart.evaluation.fairness import Check
from foolart.evaluation.gradient_checks import NO_GRADIENT
from foolart.evaluation.judge import Judge
from foolart.evaluation.memory import peak_memory
from foolart.evaluation.models import LoadedModel
from foolart.evaluation.pixels import check_images, distances
from foolart.evaluation.plan import Unit, variants
from foolart.evaluation.randomness import seeded_rows
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.sources import Images
from foolart.evaluation.store import Store
from foolart.evaluation.tables import Table, Verdict


class Bench:
    """Computes the units of a scenario on one device, one at a time.

    Args:
        scenario: The scenario.
        store: The results folder.
        parts: Its data sets.
        model: Gives the model of the scenario with this index, under the defence with that index.
        checks: For each attack what the self-check found out about it.
    """

    def __init__(
        self,
        scenario: Scenario,
        store: Store,
        parts: list[Part],
        model: Callable[[int, int], LoadedModel],
        checks: tuple[Check, ...],
    ) -> None:
        self.scenario, self.store, self.parts, self.checks = scenario, store, parts, checks
        self.judge = Judge(scenario, store)
        self._model = model
        self._clean: tuple[Any, list[int]] = (None, [])

    def compute(self, unit: Unit) -> dict[str, Any]:
        """The result of a unit, ready to be stored; an attack that breaks is part of the result.

        Raises:
            ValueError: If the originals cannot be read.
        """
        start = time.perf_counter()
        part = self.parts[unit.data]
        images = part.images(unit.start, unit.stop)
        table = Table(unit, images, part.labels[unit.start : unit.stop].tolist())
        try:
            model = self._model(unit.model, unit.defence)
            table.clean = self._clean_predictions(unit, model, images)
            self.judge.originals(unit, table)
            if unit.source:
                self._transfer(unit, model, table)
            else:
                self._attack(unit, model, table)
        except Exception as error:
            table.breaks(error, range(len(images)))
        table.seconds["unit"] = time.perf_counter() - start
        return table.body(variants(self.scenario, unit), self.checks[unit.attack].flags)

    def _clean_predictions(self, unit: Unit, model: LoadedModel, images: Images) -> list[int]:
        # The attacks on the same images come one after the other.
        key = (unit.data, unit.start, unit.stop, unit.model, unit.defence)
        if self._clean[0] != key:
            self._clean = (key, self.judge.predict(model, images))
        return self._clean[1]

    def _attack(self, unit: Unit, model: LoadedModel, table: Table) -> None:
        attack = build_attack(self.scenario.attacks[unit.attack])
        size = 1 if self.checks[unit.attack].alone else self.scenario.compute_batch
        rows = [k for k in range(len(table.labels)) if table.correct(k)]
        while rows:
            try:
                self._attack_rows(Batch.of(model, attack, table, rows[:size], size), table)
            except Exception as error:
                if _out_of_memory(error) and size > 1:
                    size = -(-size // 2)
                    table.notes.append(f"out of memory: compute batch halved to {size}")
                    if model.device.type == "cuda":
                        torch.cuda.empty_cache()
                    continue
                table.breaks(error, rows[:size])
            rows = rows[size:]

    def _attack_rows(self, batch: Batch, table: Table) -> None:
        scenario, x, rows = self.scenario, batch.x, batch.rows
        seen, defence = batch.model.defended or batch.model.foolbox, batch.model.defence
        view = attacked(seen, defence, table.unit.threat)
        model = CountingModel(
            view,
            x,
            batch.y,
            rows=len(rows),
            budget=scenario.queries and -(-scenario.queries // view.draws),
            anytime=scenario.anytime,
        )
        with _timed(table, "attack", x.device), seeded_rows(batch.seed, batch.seeds):
            try:
                epsilons = batch.attack.epsilon
                found = batch.attack.attack(model, x.clone(), batch.criterion, epsilons=epsilons)[1]
            except BudgetExhausted:
                found = model.best
        adversarial = self.judge.sound(batch, check_images(found, x), table)
        for k, *counts in zip(rows, *model.counts(), strict=True):
            table.counts[k] = (counts[0] * view.draws, counts[1] * view.draws)
        curves = [
            [k, [count * view.draws for count in queries], distances]
            for k, (queries, distances) in zip(rows, model.curves(), strict=True)
            if queries
        ]
        if defence is not None and batch.attack.gradients:
            missing = gradient_missing(attacked(seen, defence, table.unit.threat), x, batch.y)
            for k, dead in zip(rows, missing.tolist(), strict=False):
                table.flags[k] += [NO_GRADIENT] * dead
        with _timed(table, "raw", x.device):
            success = self.judge.raw(batch, adversarial, table)
        for variant in scenario.variants:
            if variant != "raw":
                with _timed(table, variant, x.device):
                    self.judge.digital(variant, batch, adversarial, success, table)
        # Last: where memory runs out before, these rows come again.
        table.curves += curves

    def _transfer(self, unit: Unit, model: LoadedModel, table: Table) -> None:
        source = self.store.read_unit(unit.source)
        if source is None:
            raise RuntimeError("the adversarials to transfer were not computed")
        columns = source["columns"]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        known = self.checks[unit.attack].flags
        for variant in variants(self.scenario, unit):
            own = [row for row in rows if row["variant"] == variant]
            pixels = table.images.copy()
            for row in own:
                if row["file"]:
                    pixels[row["row"]] = self.store.read_png(row["file"])
            for row, prediction in zip(own, self.judge.predict(model, pixels), strict=True):
                k = row["row"]
                if row["flags"].startswith("broken: "):
                    table.broken[variant, k] = row["flags"].removeprefix("broken: ")
                elif row["correct"] and row["success"] and not row["file"]:
                    table.broken[variant, k] = (
                        f"no adversarial to transfer: images of {len(table.images[k])} channels "
                        "cannot be stored as PNG"
                    )
                flags = [flag for flag in row["flags"].split(";") if flag and flag not in known]
                table.flags[k] = flags if row["correct"] else ["not attacked: misclassified there"]
                table.counts[k] = (row["forwards"], row["backwards"])
                found_at = distances(pixels[k], table.images[k])
                table.verdicts[variant, k] = Verdict(prediction, *found_at, row["file"])


@contextmanager
def _timed(table: Table, stage: str, device: torch.device) -> Iterator[None]:
    start = time.perf_counter()
    with peak_memory(device) as peak:
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    table.seconds[stage] = table.seconds.get(stage, 0.0) + time.perf_counter() - start
    table.peak = max(table.peak, peak.bytes)


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
