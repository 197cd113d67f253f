"""A mask that any attack respects."""

from __future__ import annotations

from typing import Any, TypeVar

import eagerpy as ep
from foolbox.models import Model
from foolbox.types import Bounds

T = TypeVar("T")


class Masked(Model):
    """A model that looks at the originals wherever the mask forbids a change.

    Its outputs do not depend on the masked elements and their gradient is zero there, so an attack
    on this model and :meth:`compose` together perturb the other elements only, whatever the attack.

    The rows of a batch belong to the originals one by one: an attack that evaluates parts of its
    batch needs batches of a single image.

    Args:
        model: The model to attack.
        originals: The originals ``(N, ...)``.
        mask: Boolean tensor of the shape of the originals, True where they may change.
    """

    def __init__(self, model: Model, originals: Any, mask: Any):
        self.model = model
        self.originals = ep.astensor(originals)
        self.mask = ep.astensor(mask)

    @property
    def bounds(self) -> Bounds:
        """The bounds of the model."""
        return self.model.bounds

    @property
    def data_format(self) -> Any:
        """The data format of the model."""
        return self.model.data_format

    def compose(self, inputs: T) -> T:
        """The inputs where the mask allows it, the originals elsewhere.

        Raises:
            ValueError: If there are neither as many inputs as originals nor only one original.
        """
        x, restore_type = ep.astensor_(inputs)
        if len(self.originals) not in (1, len(x)):
            raise ValueError(
                f"expected {len(self.originals)} inputs for as many masked originals, got "
                f"{len(x)}: this attack evaluates parts of its batch, so use batches of one image"
            )
        composed: T = restore_type(ep.where(self.mask, x, self.originals))
        return composed

    def __call__(self, inputs: T) -> T:
        """The outputs of the model on the composed inputs."""
        outputs: T = self.model(self.compose(inputs))
        return outputs
