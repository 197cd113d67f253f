"""RP2, the sticker attack, as an ART attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import eagerpy as ep
import numpy as np
import torch
from foolbox.models import Model

from foolart.adapters.art.bridge import ArtModel
from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.photographs import with_sticker
from foolart.adapters.foolbox.problem import Problem, criterion_of
from foolart.adapters.foolbox.robust_physical_perturbations import (
    RobustPhysicalPerturbationsAttack,
)
from foolart.adapters.sticker_file import load_sticker, save_sticker
from foolart.plugins.sticker import Sticker, as_mask


class RobustPhysicalPerturbations(NativeAttack):
    """Robust Physical Perturbations (RP2): one sticker that fools a classifier on all images.

    ``generate(x, y, mask=mask)`` makes one sticker for all of ``x``, which :meth:`apply_patch` puts
    on other photographs and :meth:`save` writes, exactly or for a printer. Masks are ``(H, W)`` or
    ``(1, H, W)``, or one an image ``(N, 1, H, W)``; one that is not binary is cut at half its
    largest value, with a warning.

    | Paper link: https://arxiv.org/abs/1707.08945
    | Paper link: https://arxiv.org/abs/1908.02256 (BlurNet, whose eq. 2 is minimised)

    | Limitations: success on photographs is no success on the road; see
      https://arxiv.org/abs/1707.03501 for what viewpoints do to stickers.

    Parameters: those of :class:`foolart.adapters.foolbox.RobustPhysicalPerturbationsAttack`, with
    ``max_iter`` for ``steps``, and ``targeted``, ``batch_size`` (images of a pass; changes nothing
    else), ``summary_writer``, ``verbose``. The classifier must be PyTorch's, channels first.

    Attributes:
        sticker: The sticker of the last ``generate`` or ``load``, None before.
    """

    foolbox_class = RobustPhysicalPerturbationsAttack
    sticker: Sticker | None = None

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Make a sticker for images, and put it on them.

        Args:
            x: The originals ``(N, C, H, W)`` within the classifier's clip values, left unchanged.
            y: As of all ART attacks; the target classes if ``targeted``.
            kwargs: ``mask``: where the sticker may be; everywhere by default.

        Returns:
            The images with the sticker on, float32; the original where it does not fool the
            classifier. :meth:`apply_patch` shows it there, too.

        Raises:
            TypeError: If another keyword argument is given.
            ValueError: If ``x``, ``y`` or the mask do not fit.
        """
        if kwargs.get("mask") is not None and np.ndim(x) == 4:
            like = torch.zeros(()).expand(np.shape(x))
            kwargs["mask"] = as_mask(kwargs["mask"], like).numpy()
        return super().generate(x, y, **kwargs)

    def apply_patch(self, x: np.ndarray, sticker: Sticker | None = None) -> np.ndarray:
        """Put the sticker on photographs, whatever the classifier says.

        Args:
            x: Photographs ``(N, C, H, W)`` of the sticker's size, within the clip values.
            sticker: Another sticker than that of the last ``generate`` or ``load``.

        Returns:
            The composed photographs, float32, within the clip values.

        Raises:
            ValueError: If there is no sticker, or it does not fit.
        """
        sticker = self._present(sticker)
        images = torch.from_numpy(np.array(x, dtype=np.float32))
        own = {len(sticker.delta), len(sticker.mask)} - {1}
        channels, *size = sticker.delta.shape[1:]
        fits = images.ndim == 4 and list(images.shape[2:]) == size
        if not fits or channels not in (1, images.shape[1]) or not own <= {len(images)}:
            raise ValueError(
                f"expected photographs for stickers {tuple(sticker.delta.shape)}, got shape "
                f"{tuple(images.shape)}"
            )
        lower, upper = ArtModel(self.estimator).bounds
        composed = sticker((images - lower) / (upper - lower)) * (upper - lower) + lower
        result: np.ndarray = torch.where(sticker.mask > 0, composed, images).numpy()
        return result

    def save(self, path: str | Path, photographs: np.ndarray | None = None) -> None:
        """Write the sticker.

        Args:
            path: ``*.safetensors``, exactly; or ``*.png``, to be printed, opaque.
            photographs: Photographs ``(N, C, H, W)`` on which a PNG is to show what an added
                perturbation looks like; not needed for ``compose="replace"``.

        Raises:
            ValueError: If there is no sticker, or it cannot be printed.
        """
        sticker = self._present(None)
        if photographs is not None and Path(path).suffix == ".png":
            lower, upper = ArtModel(self.estimator).bounds
            images = torch.from_numpy(np.array(photographs, dtype=np.float32))
            sticker = sticker.printed((images - lower) / (upper - lower))
        save_sticker(sticker, path)

    def load(self, path: str | Path) -> None:
        """Read a sticker that :meth:`save` wrote, or any PNG with opacity.

        Raises:
            ValueError: If there is no such file, or it holds no sticker.
        """
        self.sticker = load_sticker(path)

    def foolbox_params(self) -> dict[str, Any]:
        """The present parameters of the Foolbox attack, by its names."""
        return {**super().foolbox_params(), "batch_size": int(self.batch_size)}

    def _rows_at_once(self, count: int) -> int:
        # One sticker for all images; passes of batch_size are the attack's business.
        return count

    def _attack(
        self, attack: Any, model: Model, x: ep.Tensor, labels: ep.Tensor, mask: ep.Tensor | None
    ) -> ep.Tensor:
        allowed = None
        if mask is not None:
            allowed = mask.raw[:, :1].float()
            allowed = allowed[:1] if bool((allowed == allowed[:1]).all()) else allowed
        problem = Problem.of(model, x, criterion_of(labels, self.targeted))
        sticker = attack.sticker(model, x, problem.criterion, mask=allowed)
        self.sticker = Sticker(sticker.delta.cpu(), sticker.mask.cpu(), sticker.compose)
        return with_sticker(problem, sticker, self.batch_size)

    def _present(self, sticker: Sticker | None) -> Sticker:
        sticker = sticker or self.sticker
        if sticker is None:
            raise ValueError("expected a sticker: call generate or load first")
        return sticker
