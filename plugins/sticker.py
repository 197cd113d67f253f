"""A sticker: colours under a mask, shared by many photographs or made for each."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

COMPOSE = ("add", "replace")


@dataclass(frozen=True)
class Sticker:
    """A perturbation that stays under a mask.

    Attributes:
        delta: The perturbation (``"add"``) or the colours (``"replace"``) on the scale [0, 1],
            ``(1, C, H, W)`` if all images share it, else ``(N, C, H, W)``.
        mask: 1 where the sticker is and 0 elsewhere, ``(1 or N, 1, H, W)``, of the same dtype.
        compose: ``"add"``: x + M delta; ``"replace"``: x (1 - M) + M delta, an opaque sticker.
    """

    delta: torch.Tensor
    mask: torch.Tensor
    compose: str = "add"

    def perturbation(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to images ``(N, C, H, W)``: zero outside the mask."""
        change = self.delta - x if self.compose == "replace" else self.delta
        return self.mask * change

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1] with the sticker on, clipped; outside the mask bit by bit the same."""
        composed = self.delta if self.compose == "replace" else x + self.delta
        return torch.where(self.mask > 0, composed.clamp(0, 1), x)

    def rows(self, rows: slice) -> Sticker:
        """The stickers of some images; what they share stays as it is."""
        delta, mask = (t if len(t) == 1 else t[rows] for t in (self.delta, self.mask))
        return Sticker(delta, mask, self.compose)

    def printed(self, x: torch.Tensor) -> Sticker:
        """The opaque sticker that looks like this one on average over photographs.

        An added perturbation depends on what lies under it; ink does not. Evaluate this one.

        Args:
            x: The photographs, ``(N, C, H, W)`` in [0, 1]; one each for stickers of their own.
        """
        seen = self(x)
        colours = seen if len(self.delta) > 1 else seen.mean(0, keepdim=True)
        return Sticker(self.mask * colours, self.mask, "replace")


def as_mask(mask: Any, x: torch.Tensor) -> torch.Tensor:
    """Bring a mask into the form of :class:`Sticker`.

    Args:
        mask: ``(H, W)``, ``(1, H, W)``, ``(1, 1, H, W)`` or one an image ``(N, 1, H, W)``, 0 where
            nothing may change; None for all pixels. A mask of C equal channels is accepted, too.
        x: The images that it belongs to, ``(N, C, H, W)``.

    Returns:
        ``(1 or N, 1, H, W)`` of zeros and ones, of the dtype and on the device of ``x``.

    Raises:
        ValueError: If its shape does not fit, or nothing is left to change.

    Warns:
        UserWarning: If it has other values than 0 and its largest, naming the threshold.
    """
    n, channels, height, width = x.shape
    if mask is None:
        return torch.ones_like(x[:1, :1])
    given = mask.detach() if isinstance(mask, torch.Tensor) else torch.from_numpy(np.array(mask))
    shaped = given[(None,) * (4 - given.ndim)] if 2 <= given.ndim <= 4 else given
    fits = shaped.ndim == 4 and shaped.shape[2:] == (height, width)
    if not fits or shaped.shape[0] not in (1, n) or shaped.shape[1] not in (1, channels):
        raise ValueError(
            f"expected a mask of shape ({height}, {width}), (1, {height}, {width}) or "
            f"({n}, 1, {height}, {width}), as the images have {height}x{width} pixels, got "
            f"{tuple(given.shape)}"
        )
    values = shaped.to(x)
    least, top = values.min().item(), values.max().item()
    if not (math.isfinite(top) and top > 0 and least >= 0):
        raise ValueError(
            "expected a mask with values >= 0 and at least one pixel above 0, got values from "
            f"{least:g} to {top:g}"
        )
    if not bool(((values == 0) | (values == top)).all()):
        warnings.warn(
            f"the mask is not binary: values above {top / 2:g}, half its largest, count as 1, and "
            "all others as 0",
            stacklevel=2,
        )
    binary = (values > top / 2).to(x)
    if not torch.equal(binary.amin(1), binary.amax(1)):
        raise ValueError("expected a mask with one channel, or with equal channels")
    return binary[:, :1]


def strongest(sticker: Sticker, x: torch.Tensor, share: float) -> torch.Tensor:
    """The mask of the pixels that a sticker changes most: the first of RP2's two stages.

    Args:
        sticker: The result of an attack that is sparse, under the L1 norm.
        x: The images it was made for, ``(N, C, H, W)``.
        share: Share of the pixels under its mask that remain, in (0, 1].

    Returns:
        A mask like the sticker's, one for each image if the sticker is or has a mask for each.

    Raises:
        ValueError: If ``share`` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"expected the share of the mask to be in (0, 1], got {share!r}")
    change = (sticker(x) - x).abs().sum(1, keepdim=True)
    if len(sticker.delta) == 1:
        change = change.mean(0, keepdim=True)
    n = max(len(change), len(sticker.mask))
    change, mask = (t.expand(n, -1, -1, -1) for t in (change, sticker.mask))
    # Pixels outside the mask rank last, whatever the change inside.
    rank = torch.where(mask > 0, change, change.new_full((), -1)).flatten(1)
    # Less a trifle: a tenth of 30 pixels is 3, also in float32.
    count = (share * mask.flatten(1).sum(1, keepdim=True) - 1e-3).ceil().long().clamp(min=1)
    threshold = rank.sort(descending=True).values.gather(1, count - 1)
    return (rank >= threshold).reshape(mask.shape).to(mask) * mask
