"""Counting an attack's passes, image by image, and watching its best adversarial so far."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import foolbox
import torch


class BudgetExhausted(Exception):
    """Raised by a model whose enforced budget of passes is spent."""


class CountingModel(foolbox.models.base.Model):
    """A Foolbox model that keeps books on an attack, and otherwise answers as the model inside.

    Nothing here waits for the device: passes of whole batches are counted on the host, everything
    else stays in tensors that are read once, after the attack. Rows are matched by their place in
    the batch; where an attack asks for some rows only, or for several versions of each, by the
    nearest original.

    Args:
        model: A Foolbox model of a PyTorch network.
        originals: The batch under attack, ``(N, ...)``, within the model's bounds.
        labels: Their true classes, ``(N,)``, int64.
        rows: How many of them count; the others are padding.
        budget: Forward plus backward passes each image may use; None for no limit.
        anytime: Whether to watch the best adversarial so far.

    Attributes:
        best: With a budget: the closest adversarial seen of each image, else the original,
            ``(N, ...)``.
        queries: Forward plus backward passes so far, of the image that was asked for most: an
            upper bound where an attack asks for some rows only.
    """

    def __init__(
        self,
        model: Any,
        originals: torch.Tensor,
        labels: torch.Tensor,
        *,
        rows: int | None = None,
        budget: int | None = None,
        anytime: bool = True,
    ) -> None:
        self.model = model
        self.originals = originals
        self.labels = labels
        self.rows = len(originals) if rows is None else rows
        self.budget = budget
        self.anytime = anytime or budget is not None
        self.best = originals
        self.queries = 0
        self._whole = {"forward": 0, "backward": 0}
        zeros = torch.zeros(len(originals), dtype=torch.int64, device=originals.device)
        self._partial = {"forward": zeros, "backward": zeros.clone()}
        self._distance = torch.full((len(originals),), torch.inf, device=originals.device)
        self._history: list[tuple[int, torch.Tensor]] = []

    @property
    def bounds(self) -> Any:
        """The bounds of the model inside."""
        return self.model.bounds

    def __getattr__(self, name: str) -> Any:
        """Everything else that the model inside has, such as its device."""
        if name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def __call__(self, inputs: Any) -> Any:
        """The outputs of the model inside.

        Raises:
            BudgetExhausted: If the budget is spent.
        """
        x, restore_type = ep.astensor_(inputs)
        raw = x.raw
        if self.budget is not None and self.queries >= self.budget:
            raise BudgetExhausted
        index = None if len(raw) == len(self.originals) else self._match(raw)
        versions = -(-len(raw) // len(self.originals))
        self._count("forward", index, versions)
        if raw.requires_grad:
            with torch.enable_grad():
                raw = raw.view_as(raw)
                raw.register_hook(lambda _: self._count("backward", index, versions))
        outputs = self.model(raw)
        if self.anytime:
            self._watch(x.raw, outputs, index)
        return restore_type(ep.astensor(outputs))

    def counts(self) -> tuple[list[int], list[int]]:
        """The forward and the backward passes spent on each image, padding left out."""
        # Equal originals, such as padding, are asked for together, and all counted as the first.
        first = self._match(self.originals)
        copies = torch.bincount(first, minlength=len(first)).clamp(min=1)
        forward, backward = (
            (self._whole[kind] + -(-self._partial[kind] // copies)[first][: self.rows]).tolist()
            for kind in ("forward", "backward")
        )
        return forward, backward

    def curves(self) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
        """For each image, the queries at which its best L2 distance fell, and the distances."""
        if not self._history:
            return [((), ())] * self.rows
        queries = [count for count, _ in self._history]
        best = torch.stack([distance[: self.rows] for _, distance in self._history], dim=1)
        before = torch.nn.functional.pad(best[:, :-1], (1, 0), value=torch.inf)
        curves = []
        for distances, improved in zip(best.tolist(), (best < before).tolist(), strict=True):
            steps = [k for k, fell in enumerate(improved) if fell]
            curves.append((tuple(queries[k] for k in steps), tuple(distances[k] for k in steps)))
        return curves

    def _count(self, kind: str, index: torch.Tensor | None, versions: int) -> None:
        self.queries += versions
        if index is None:
            self._whole[kind] += 1
        else:
            self._partial[kind].index_add_(0, index, torch.ones_like(index))

    @torch.no_grad()
    def _match(self, raw: torch.Tensor) -> torch.Tensor:
        x, o = raw.detach().flatten(1), self.originals[: self.rows].flatten(1)
        nearest: torch.Tensor = (x @ o.T - o.square().sum(1) / 2).argmax(1)
        return nearest

    @torch.no_grad()
    def _watch(self, x: torch.Tensor, outputs: torch.Tensor, index: torch.Tensor | None) -> None:
        originals, labels = self.originals, self.labels
        if index is not None:
            originals, labels = originals[index], labels[index]
        distance = torch.linalg.vector_norm((x - originals).flatten(1), dim=1)
        distance = distance.masked_fill(outputs.argmax(1) == labels, torch.inf)
        if index is None:
            best = torch.minimum(self._distance, distance)
        else:
            best = self._distance.scatter_reduce(0, index, distance, "amin")
        if self.budget is not None:
            self._keep(x, distance, best, index)
        self._distance = best
        self._history.append((self.queries, best))

    def _keep(
        self,
        x: torch.Tensor,
        distance: torch.Tensor,
        best: torch.Tensor,
        index: torch.Tensor | None,
    ) -> None:
        improved = best < self._distance
        if index is None:
            candidates = x
        else:
            # The row of x that reached the best distance of each original; any row where none did.
            reached = distance.unsqueeze(0) == best.unsqueeze(1)
            own = index.unsqueeze(0) == torch.arange(len(best), device=x.device).unsqueeze(1)
            candidates = x[(reached & own).int().argmax(1)]
        self.best = torch.where(improved.reshape(-1, *[1] * (x.ndim - 1)), candidates, self.best)
