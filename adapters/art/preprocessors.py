"""Image defences as ART preprocessors, in PyTorch, to be chained with any other."""

from __future__ import annotations

from abc import abstractmethod
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import nn

from foolart.plugins import filters
from foolart.plugins.deflection import PixelDeflection as _PixelDeflection


class TorchPreprocessor(PreprocessorPyTorch):
    """An image defence whose gradient lies inside ``forward``, where ART differentiates it.

    ART never calls ``estimate_forward`` in its PyTorch path, so that a defence that rounds would
    show attacks a zero gradient; here ``gradient`` chooses what they see. Inputs and labels of any
    dtype are accepted; images come back as ``float32``, labels as they are.

    Args:
        clip_values: The range of the images, which the defence sees as [0, 1].
        channels_first: Whether images are ``(N, C, H, W)`` or ``(N, H, W, C)``.
        apply_fit: Whether it is applied in training.
        apply_predict: Whether it is applied in prediction.
        device_type: ``"cpu"`` or ``"gpu"``, for NumPy inputs; ``forward`` works where its inputs
            are.

    Raises:
        ValueError: If clip values are missing, reversed, or differ between features.
    """

    params: ClassVar[list[str]] = ["clip_values", "channels_first"]

    def __init__(
        self,
        *,
        clip_values: Any = (0.0, 1.0),
        channels_first: bool = True,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(
            device_type=device_type,
            is_fitted=True,
            apply_fit=apply_fit,
            apply_predict=apply_predict,
        )
        self.clip_values = clip_values
        self.channels_first = channels_first
        self.defence: nn.Module | None = None

    @abstractmethod
    def build(self) -> nn.Module | None:
        """The defence with the present parameters, None if it has to be fitted first."""

    def set_params(self, **kwargs: Any) -> None:
        """Change parameters.

        Raises:
            ValueError: If there is no such parameter or a value is refused; then none is changed.
        """
        unknown = [name for name in kwargs if name not in self.params]
        if unknown:
            raise ValueError(f"expected parameters {', '.join(self.params)}, got {unknown[0]}")
        before = {name: getattr(self, name) for name in kwargs}
        try:
            super().set_params(**kwargs)
        except ValueError:
            super().set_params(**before)
            raise

    def _check_params(self) -> None:
        bounds(self.clip_values)
        self.defence = self.build()

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        """Defend a batch of images on its own device; labels are passed on.

        Raises:
            ValueError: If the images do not fit the defence, or it is not fitted.
        """
        if self.defence is None:
            raise ValueError(f"expected a fitted {type(self).__name__}: call fit(images) first")
        if x.ndim != 4:
            raise ValueError(f"expected a batch of images of 4 axes, got shape {tuple(x.shape)}")
        lower, upper = bounds(self.clip_values)
        images = self.scaled(x.float())
        value = self.defence.to(x.device)(images) * (upper - lower) + lower
        return value if self.channels_first else value.permute(0, 2, 3, 1), y

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        """Images as the defence sees them: ``(N, C, H, W)`` in [0, 1]."""
        lower, upper = bounds(self.clip_values)
        x = x if self.channels_first else x.permute(0, 3, 1, 2)
        return (x - lower) / (upper - lower)


class FilterPreprocessor(TorchPreprocessor):
    """A preprocessor around one of our plugins, with its parameters.

    Parameters of the plugin come first, by position or name; those of :class:`TorchPreprocessor`
    follow by name.
    """

    plugin: ClassVar[type[nn.Module]]
    _own: ClassVar[list[str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the parameters over from the plugin."""
        super().__init_subclass__(**kwargs)
        cls._own = list(signature(cls.plugin).parameters)
        cls.params = [*cls._own, *TorchPreprocessor.params]
        shared = list(signature(TorchPreprocessor).parameters.values())
        own = list(signature(cls.plugin).parameters.values())
        cls.__signature__ = signature(cls.plugin).replace(parameters=[*own, *shared])

    __signature__: ClassVar[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        arguments = self.__signature__.bind(*args, **kwargs)
        arguments.apply_defaults()
        given = arguments.arguments
        super().__init__(**{k: v for k, v in given.items() if k not in self._own})
        for name in self._own:
            setattr(self, name, given[name])
        self._check_params()

    def build(self) -> nn.Module:
        """The plugin with the present parameters."""
        # Plain numbers: plugins refuse what is no int, and NumPy's integers are none.
        values = {name: getattr(self, name) for name in self._own}
        return self.plugin(
            **{k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        )


class BitDepthReduction(FilterPreprocessor):
    """Fewer levels for every pixel.

    | Paper link: https://arxiv.org/abs/1711.00117

    | Limitations: bends to attacks that know it (paper link: https://arxiv.org/abs/1802.00420).

    Parameters: those of :class:`foolart.plugins.filters.BitDepthReduction` and of
    :class:`TorchPreprocessor`.
    """

    plugin = filters.BitDepthReduction


class MedianSmoothing(FilterPreprocessor):
    """The median of a window, of even sizes too, without kornia.

    | Paper link: https://arxiv.org/abs/1704.01155

    | Limitations: bends to attacks that know it (paper link: https://arxiv.org/abs/1802.00420).

    Parameters: those of :class:`foolart.plugins.filters.MedianSmoothing` and of
    :class:`TorchPreprocessor`.
    """

    plugin = filters.MedianSmoothing


class BilateralFilter(FilterPreprocessor):
    """A blur that stops at edges.

    | Limitations: it is differentiable, so that attacks need not even know how to get around it.

    Parameters: those of :class:`foolart.plugins.filters.BilateralFilter` and of
    :class:`TorchPreprocessor`.
    """

    plugin = filters.BilateralFilter


class GaussianNoise(FilterPreprocessor):
    """Fresh white noise at every call: the control that other defences have to beat.

    | Limitations: attack the mean over draws (EOT, paper link: https://arxiv.org/abs/1707.07397).

    Parameters: those of :class:`foolart.plugins.filters.GaussianNoise` and of
    :class:`TorchPreprocessor`.
    """

    plugin = filters.GaussianNoise


class PixelDeflection(FilterPreprocessor):
    """Random pixels replaced by near ones, then wavelet denoising.

    | Paper link: https://arxiv.org/abs/1801.08926

    | Limitations: bends to attacks that know it (paper link: https://arxiv.org/abs/1804.03286).

    Parameters: those of :class:`foolart.plugins.deflection.PixelDeflection` and of
    :class:`TorchPreprocessor`.
    """

    plugin = _PixelDeflection


def bounds(clip_values: Any) -> tuple[float, float]:
    """Clip values, numbers or arrays, as two numbers.

    Raises:
        ValueError: If they are missing, reversed, or differ between features.
    """
    try:
        lower, upper = (np.asarray(side, dtype=np.float64) for side in clip_values)
        found = float(lower.flat[0]), float(upper.flat[0])
        same = bool((lower == found[0]).all() and (upper == found[1]).all())
        if same and found[0] < found[1] and np.isfinite(found).all():
            return found
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "expected clip_values (lower, upper), finite, increasing and the same for all features, "
        f"got {clip_values!r}"
    )
