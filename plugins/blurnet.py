"""BlurNet: low-pass filters between a network's layers, and training that makes it one itself.

References:
    .. [#Raju20] Ravi S. Raju, Mikko Lipasti, "BlurNet: defense by filtering the feature maps",
       DSN-W 2020, https://arxiv.org/abs/1908.02256.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

KERNELS = ("box", "gaussian")
PADDINGS = ("zeros", "reflect")
PENALTIES = ("linf", "tv", "tikhonov")
# Differences well below the root of this count as none.
CHARBONNIER = 1e-6


class Blur(nn.Module):
    """A fixed blur of every channel on its own, of the size of its input.

    The paper's filter after a layer; on images, its baseline.

    Args:
        size: Height and width of the kernel, odd: 3, 5 or 7 in the paper.
        kernel: ``"box"``, all weights equal, or ``"gaussian"`` with a standard deviation of a
            quarter of the size. Weights sum to 1.
        padding: ``"zeros"``, or ``"reflect"`` for maps larger than half the kernel.

    Raises:
        ValueError: For an even or too small size, an unknown kernel or padding.
    """

    weight: torch.Tensor

    def __init__(self, size: int = 5, kernel: str = "box", padding: str = "zeros") -> None:
        super().__init__()
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"expected an odd size of the blur kernel, got {size!r}")
        for name, value, known in (("kernel", kernel, KERNELS), ("padding", padding, PADDINGS)):
            if value not in known:
                raise ValueError(f"expected {name} to be one of {known}, got {value!r}")
        self.register_buffer("weight", _window(size, kernel))
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Blur maps ``(N, K, H, W)`` of any float dtype, which is kept.

        Raises:
            ValueError: If there are no such maps.
        """
        _check_maps(x)
        return _depthwise(x, _for_each(self.weight.to(x.dtype), x.shape[1]), self.padding)


class DepthwiseBlur(nn.Module):
    """A blur whose weights are learnt, under :func:`linf_penalty`; at first a box.

    Args:
        channels: Number of channels.
        size: Height and width of the kernels, odd.
        padding: ``"zeros"`` or ``"reflect"``.

    Raises:
        ValueError: As :class:`Blur`.
    """

    def __init__(self, channels: int, size: int = 5, padding: str = "zeros") -> None:
        super().__init__()
        box = Blur(size, padding=padding).weight
        self.weight = nn.Parameter(box.expand(channels, 1, size, size).clone())
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter maps ``(N, channels, H, W)``.

        Raises:
            ValueError: If there are other channels, or no maps at all.
        """
        _check_maps(x, len(self.weight))
        return _depthwise(x, self.weight, self.padding)


def linf_penalty(weight: torch.Tensor) -> torch.Tensor:
    """``sum_j max |W_j|`` over the channels of a depthwise layer (eq. 3), a scalar.

    Least for given sums where all weights of a kernel are equal: a box blur.

    Args:
        weight: ``(C, 1, k, k)``.
    """
    return weight.abs().flatten(1).amax(1).sum()


def total_variation(maps: torch.Tensor, *, isotropic: bool = False) -> torch.Tensor:
    """The mean over channels of the total variation of feature maps (eqs. 4 and 5).

    Absolute differences are ``sqrt(d^2 + 1e-6)``, differentiable; the paper does not say how it
    approximates them.

    Args:
        maps: ``(N, K, H, W)``.
        isotropic: Whether vertical and horizontal differences of a pixel join under one root; the
            last row and column are left out then.

    Returns:
        ``(N,)``.
    """
    down = maps[..., 1:, :] - maps[..., :-1, :]
    right = maps[..., 1:] - maps[..., :-1]
    if isotropic:
        joint = down[..., :-1] ** 2 + right[..., :-1, :] ** 2
        return (joint + CHARBONNIER).sqrt().sum((2, 3)).mean(1)
    vertical = (down**2 + CHARBONNIER).sqrt().sum((2, 3))
    horizontal = (right**2 + CHARBONNIER).sqrt().sum((2, 3))
    return (vertical + horizontal).mean(1)


def high_frequency_energy(maps: torch.Tensor, size: int = 5) -> torch.Tensor:
    """The mean over channels of the energy that a box blur takes away; a Tikhonov penalty.

    Ours, not the paper's: like the total variation it punishes what a blur would remove, but large
    spikes more than proportionally.

    Args:
        maps: ``(N, K, H, W)``.
        size: Size of the blur, odd.

    Returns:
        ``(N,)``.
    """
    channels = maps.shape[1]
    window = _for_each(_window(size, "box").to(maps), channels)
    # Edges are replicated: a constant map has no high frequencies.
    half = size // 2
    padded = F.pad(maps, (half, half, half, half), mode="replicate")
    rest = maps - F.conv2d(padded, window, groups=channels)
    return (rest**2).sum((2, 3)).mean(1)


def penalty(name: str, layer: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """One of the regularisers of training, by name, before its weight alpha.

    Args:
        name: ``"linf"``, :func:`linf_penalty` of a :class:`DepthwiseBlur`; ``"tv"``,
            :func:`total_variation`, or ``"tikhonov"``, :func:`high_frequency_energy`, averaged over
            the batch.
        layer: The layer, which is the blur under ``"linf"``.
        maps: Its output, ``(N, K, H, W)``.

    Returns:
        A scalar.

    Raises:
        ValueError: For an unknown name, or another layer than a blur under ``"linf"``.
    """
    if name == "linf":
        if not isinstance(layer, DepthwiseBlur):
            raise ValueError(
                f"expected a DepthwiseBlur under the linf penalty, got {type(layer).__name__}: "
                "insert one after a layer first"
            )
        return linf_penalty(layer.weight)
    if name == "tv":
        return total_variation(maps).mean()
    if name == "tikhonov":
        return high_frequency_energy(maps).mean()
    raise ValueError(f"expected a penalty of {PENALTIES}, got {name!r}")


def _window(size: int, kernel: str) -> torch.Tensor:
    if kernel == "box":
        line = torch.ones(size)
    else:
        position = torch.arange(size) - (size - 1) / 2
        line = torch.exp(-(position**2) / (2 * (size / 4) ** 2))
    window = torch.outer(line, line)
    return window / window.sum()


def _for_each(window: torch.Tensor, channels: int) -> torch.Tensor:
    # A copy for each channel: convolutions take twice the time with one that they share.
    return window.expand(channels, 1, *window.shape).contiguous()


def _depthwise(x: torch.Tensor, weight: torch.Tensor, padding: str) -> torch.Tensor:
    half = weight.shape[-1] // 2
    if padding == "zeros":
        return F.conv2d(x, weight, padding=half, groups=len(weight))
    return F.conv2d(F.pad(x, (half,) * 4, mode="reflect"), weight, groups=len(weight))


def _check_maps(x: torch.Tensor, channels: int | None = None) -> None:
    if x.ndim != 4 or x.shape[1] != (channels or x.shape[1]):
        raise ValueError(
            f"expected feature maps (N, {channels or 'K'}, H, W) to blur, got shape "
            f"{tuple(x.shape)}: name a convolutional layer"
        )
