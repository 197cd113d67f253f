"""Any ART preprocessor as a module, to defend Foolbox models and networks with."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from art.defences import preprocessor as arts
from art.defences.preprocessor import Preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import nn

from foolart.plugins.randomised import Randomised
from foolart.plugins.straight_through import check_gradient, straight_through

RANDOM = ("GaussianAugmentation", "TotalVarMin")
"""ART's preprocessors that draw from NumPy's global generator whenever they are called."""


class PreprocessorModule(nn.Module):
    """Run an ART preprocessor, of NumPy or PyTorch, inside a network.

    Args:
        preprocessor: The preprocessor, made for images in [0, 1]: ``(N, C, H, W)``, or
            ``(N, H, W, C)`` if ``channels_last``.
        gradient: ``"straight-through"``, the identity (BPDA), or, for preprocessors of PyTorch,
            ``"true"``: what its ``forward`` has.
        channels_last: Whether a preprocessor of NumPy wants the channels last.

    Raises:
        ValueError: If the preprocessor is not fitted, not one of ART's, or has no such gradient.
    """

    gradients: tuple[str, ...] = ("straight-through", "true")

    def __init__(
        self,
        preprocessor: Any,
        *,
        gradient: str = "straight-through",
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(preprocessor, Preprocessor):
            raise ValueError(
                "expected an ART preprocessor, such as art.defences.preprocessor.JpegCompression, "
                f"got {type(preprocessor).__name__}"
            )
        if not isinstance(preprocessor, PreprocessorPyTorch):
            self.gradients = ("straight-through",)
        check_gradient(gradient, self.gradients)
        self.preprocessor, self.gradient = preprocessor, gradient
        self.channels_last = channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Preprocess images ``(N, C, H, W)`` in [0, 1]; dtype and device are kept.

        Raises:
            ValueError: If the preprocessor returns more or fewer images than it is given.
        """
        if self.gradient == "true":
            value: torch.Tensor = self.preprocessor.forward(x)[0]
            return value.to(x.dtype)
        with torch.no_grad():
            if isinstance(self.preprocessor, PreprocessorPyTorch):
                value = self.preprocessor.forward(x)[0]
            else:
                value = torch.as_tensor(self._by_numpy(x.detach()))
        if len(value) != len(x):
            raise ValueError(
                f"expected {type(self.preprocessor).__name__} to return as many images as it is "
                f"given, got {len(value)} for {len(x)}: augmentations are no defences in prediction"
            )
        return straight_through(x, value.to(x))

    def _by_numpy(self, x: torch.Tensor) -> Any:
        # NumPy has no bfloat16, and SciPy's filters no half precision.
        images = x.to(torch.promote_types(x.dtype, torch.float32)).cpu().numpy()
        if not self.channels_last:
            return self.preprocessor(images)[0]
        return np.moveaxis(self.preprocessor(np.moveaxis(images, 1, -1))[0], -1, 1)


class RandomPreprocessorModule(PreprocessorModule, Randomised):
    """Run an ART preprocessor that draws from NumPy's global generator, reproducibly.

    Images are preprocessed one by one, each from a seed of its own; the state of NumPy's generator
    is put back.

    Args:
        preprocessor: See :class:`PreprocessorModule`.
        seed: Of all draws.
        channels_last: See :class:`PreprocessorModule`.
    """

    def __init__(self, preprocessor: Any, *, seed: int = 0, channels_last: bool = False) -> None:
        super().__init__(preprocessor, channels_last=channels_last)
        self.seed = int(seed)

    def _by_numpy(self, x: torch.Tensor) -> Any:
        generator = self.generator(torch.device("cpu"))
        seeds = torch.randint(0, 2**31, (len(x),), generator=generator)
        before = np.random.get_state()
        try:
            found = []
            for image, seed in zip(x, seeds.tolist(), strict=True):
                np.random.seed(seed)
                found.append(super()._by_numpy(image[None]))
        finally:
            np.random.set_state(before)
        return np.concatenate(found)


def art_preprocessor(name: str, **params: Any) -> PreprocessorModule:
    """Make a module of an ART preprocessor, for images ``(N, C, H, W)`` in [0, 1].

    Args:
        name: The name of its class in :mod:`art.defences.preprocessor`, such as
            ``"JpegCompression"``.
        params: Keyword arguments of the class, and ``seed`` for those of :data:`RANDOM`. Clip
            values and the place of the channels are known: they are told to classes that ask for
            them, and classes of NumPy that do not get the channels last, as ART's conventions are.
            Those that may add images to those that they are given do not.

    Raises:
        ValueError: If there is no such preprocessor, or it takes no such parameter.
    """
    classes = _classes()
    if name not in classes:
        near = get_close_matches(name, classes, n=3, cutoff=0.3) or sorted(classes)
        raise ValueError(
            f"expected the name of an ART preprocessor, got {name!r}: the nearest are "
            f"{', '.join(near)}"
        )
    made, wraps = classes[name], name in RANDOM
    seed = {"seed": params.pop("seed", 0)} if wraps else {}
    accepted = inspect.signature(made.__init__).parameters
    unknown = sorted(set(params).difference(accepted))
    if unknown:
        own = [key for key in accepted if key not in ("self", "clip_values", "channels_first")]
        raise ValueError(
            f"{name} takes no {', '.join(unknown)}: its parameters are {', '.join([*own, *seed])}"
        )
    known = {
        "clip_values": (0.0, 1.0),
        "channels_first": True,
        "device_type": "cpu",
        "augmentation": False,
    }
    arguments = {key: value for key, value in known.items() if key in accepted} | params
    preprocessor = made(**arguments)
    last = "channels_first" not in accepted and not isinstance(preprocessor, PreprocessorPyTorch)
    if wraps:
        return RandomPreprocessorModule(preprocessor, channels_last=last, **seed)
    return PreprocessorModule(preprocessor, channels_last=last)


def _classes() -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(arts).items()
        if inspect.isclass(value) and issubclass(value, Preprocessor) and value is not Preprocessor
    }
