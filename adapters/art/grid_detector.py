"""The one-line detector of adversarial examples that are no digital images."""

from __future__ import annotations

from typing import Any, ClassVar

import eagerpy as ep
import numpy as np
from art.defences.detector.evasion import EvasionDetector

from foolart.adapters.art.preprocessors import bounds
from foolart.plugins.box import Box

Array = np.ndarray[Any, np.dtype[Any]]


class GridDetector(EvasionDetector):
    """Report every input that does not lie on the grid of digital images.

    Most attacks return floats between the levels of 8-bit pixels, which no camera and no file
    gives; this finds them without a look at their content.

    | Paper link: https://hal.science/hal-02553006

    | Limitations: adversarials that are rounded with care, as by
      :class:`foolart.adapters.art.LagrangianQuantization`, pass. So do all that are stored as
      8-bit files.

    Args:
        levels: Number of levels of a pixel, 256 for 8 bits.
        clip_values: The range of the images.
        tolerance: Distance to a level, as a share of a step, that passes as float noise.

    Raises:
        ValueError: If an argument is out of range.
    """

    defence_params: ClassVar[list[str]] = ["levels", "clip_values", "tolerance"]

    def __init__(
        self, levels: int = 256, *, clip_values: Any = (0.0, 1.0), tolerance: float = 1e-2
    ) -> None:
        super().__init__()
        self.levels, self.clip_values, self.tolerance = levels, clip_values, tolerance
        self._check_params()

    def fit(
        self, x: Array, y: Array, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any
    ) -> None:
        """There is nothing to learn."""

    def detect(
        self, x: Array, batch_size: int = 128, **kwargs: Any
    ) -> tuple[dict[str, Any], Array]:
        """Tell the inputs ``(N, ...)`` that lie off the grid.

        Returns:
            ``({}, is_adversarial)`` with booleans ``(N,)``.
        """
        box = Box(*bounds(self.clip_values), self.levels)
        parts = [
            box.off_grid(ep.astensor(np.asarray(x[i : i + batch_size])), self.tolerance).numpy()
            for i in range(0, len(x), batch_size)
        ]
        return {}, np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def _check_params(self) -> None:
        Box(*bounds(self.clip_values), self.levels)
        if not 0 <= float(self.tolerance) < 0.5:
            raise ValueError(f"expected tolerance from 0 to below 0.5, got {self.tolerance!r}")
