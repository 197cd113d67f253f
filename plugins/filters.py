"""Filters of images ``(B, C, H, W)`` in [0, 1], which patch replacement is compared with."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from foolart.plugins.randomised import Randomised
from foolart.plugins.straight_through import check_gradient, straight_through

FLOATS_AT_ONCE = 2**20


class Filter(nn.Module):
    """An image filter whose gradient can be chosen.

    Args:
        gradient: What backward passes see: ``"straight-through"``, the identity (BPDA); ``"true"``,
            the derivative of the filter; ``"surrogate"``, that of a smooth stand-in, where there is
            one. Values are the same for all.

    Raises:
        ValueError: If the filter has no such gradient.
    """

    gradients: ClassVar[tuple[str, ...]] = ("straight-through", "true")

    def __init__(self, gradient: str = "straight-through") -> None:
        super().__init__()
        check_gradient(gradient, self.gradients)
        self.gradient = gradient

    @abstractmethod
    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        """The filtered images, by differentiable operations where there are any."""

    def surrogate(self, x: torch.Tensor) -> torch.Tensor:
        """The smooth stand-in."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter images ``(B, C, H, W)`` in [0, 1].

        Raises:
            ValueError: If the images are no such batch, or (on the CPU) not finite.
        """
        check_images(x)
        # In chunks: some filters need a window's memory for every pixel.
        chunks = torch.split(x, max(1, FLOATS_AT_ONCE // max(1, x.shape[1:].numel())))
        if not (torch.is_grad_enabled() and x.requires_grad) or self.gradient == "true":
            return torch.cat([self.filtered(chunk) for chunk in chunks])
        with torch.no_grad():
            value = torch.cat([self.filtered(chunk) for chunk in chunks])
        if self.gradient == "straight-through":
            return straight_through(x, value)
        smooth = self.surrogate(x)
        return value + (smooth - smooth.detach())


class BitDepthReduction(Filter):
    """Fewer levels: round(x (2^b - 1)) / (2^b - 1), after [#Guo17]_.

    The true gradient is zero. The surrogate is the smooth staircase k - sin(2 pi k) / (2 pi).

    Args:
        bits: b, from 1 to 16.
        gradient: See :class:`Filter`; also ``"surrogate"``.

    References:
        .. [#Guo17] Guo, Rana, Cissé, van der Maaten, "Countering adversarial images using input
           transformations", ICLR 2018.
    """

    gradients = ("straight-through", "true", "surrogate")

    def __init__(self, bits: int = 3, *, gradient: str = "straight-through") -> None:
        super().__init__(gradient)
        if isinstance(bits, bool) or int(bits) != bits or not 1 <= bits <= 16:
            raise ValueError(f"expected bits from 1 to 16, got {bits!r}")
        self.bits = int(bits)

    @property
    def top(self) -> int:
        """The number of the highest level."""
        return int(2**self.bits - 1)

    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        """Round to the levels."""
        return (x * self.top).round() / self.top

    def surrogate(self, x: torch.Tensor) -> torch.Tensor:
        """The smooth staircase through the levels."""
        return x - torch.sin(2 * torch.pi * self.top * x) / (2 * torch.pi * self.top)


class MedianSmoothing(Filter):
    """The median of a window, after feature squeezing [#Xu17]_.

    Values and borders are those of ``scipy.ndimage.median_filter(mode="reflect")``, which the paper
    uses: windows of even size reach one further up and left, and of the two middle values the
    larger is taken. The true gradient goes to the pixel whose value was taken; the surrogate is
    the mean of the window.

    Args:
        size: Side of the window, 2 or 3 in the thesis.
        gradient: See :class:`Filter`; also ``"surrogate"``.

    References:
        .. [#Xu17] Xu, Evans, Qi, "Feature squeezing", NDSS 2018.
    """

    gradients = ("straight-through", "true", "surrogate")

    def __init__(self, size: int = 3, *, gradient: str = "straight-through") -> None:
        super().__init__(gradient)
        if isinstance(size, bool) or int(size) != size or size < 1:
            raise ValueError(f"expected size >= 1, got {size!r}")
        self.size = int(size)

    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        """The medians."""
        windows = self._windows(x)
        return windows.kthvalue(self.size**2 // 2 + 1, dim=-1).values

    def surrogate(self, x: torch.Tensor) -> torch.Tensor:
        """The means."""
        return self._windows(x).mean(-1)

    def _windows(self, x: torch.Tensor) -> torch.Tensor:
        for axis in (2, 3):
            before, after = self.size // 2, (self.size - 1) // 2
            rows = np.pad(np.arange(x.shape[axis]), (before, after), mode="symmetric")
            x = x.index_select(axis, torch.from_numpy(rows).to(x.device))
        return x.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(-2)


class BilateralFilter(Filter):
    """A Gaussian blur that stops at edges [#Tomasi98]_.

    Neighbours weigh exp(-|p - q|^2 / (2 domain^2)) exp(-||I_p - I_q||^2 / (2 range^2)), with one
    weight for all channels. Borders are replicated. It is smooth: its true gradient serves.

    Args:
        domain: Standard deviation in space, in pixels.
        range: Standard deviation of colours, on [0, 1] for every channel.
        gradient: See :class:`Filter`.

    References:
        .. [#Tomasi98] Tomasi, Manduchi, "Bilateral filtering for gray and color images", ICCV 1998.
    """

    def __init__(
        self, domain: float = 0.5, range: float = 0.2, *, gradient: str = "straight-through"
    ) -> None:
        super().__init__(gradient)
        for name, value in (("domain", domain), ("range", range)):
            if not 0 < float(value) < float("inf"):
                raise ValueError(f"expected {name} > 0, got {value!r}")
        self.domain, self.range = float(domain), float(range)

    @property
    def radius(self) -> int:
        """How far neighbours count: 3 domains, and 2 pixels at least, as in scikit-image."""
        return max(2, int(np.ceil(3 * self.domain)))

    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        """The weighted means."""
        r = self.radius
        height, width = x.shape[2:]
        padded = F.pad(x, (r, r, r, r), mode="replicate")
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        for i in range(2 * r + 1):
            for j in range(2 * r + 1):
                shifted = padded[:, :, i : i + height, j : j + width]
                colour = (shifted - x).square().sum(1, keepdim=True) / (2 * self.range**2)
                space = ((i - r) ** 2 + (j - r) ** 2) / (2 * self.domain**2)
                weight = torch.exp(-colour - space)
                total = total + weight * shifted
                weights = weights + weight
        return total / weights


class GaussianNoise(Randomised):
    """White noise and a clip to [0, 1]: the control that every defence has to beat.

    Its gradient is that of the clip, or the identity. Numbers belong to a place in the batch, not
    to an image.

    Args:
        std: Standard deviation: .05, or .224, which is the thesis's *variance* of .05.
        seed: Of the noise.
        gradient: ``"straight-through"``, the identity, or ``"true"``.
    """

    gradients: ClassVar[tuple[str, ...]] = ("straight-through", "true")

    def __init__(
        self, std: float = 0.05, *, seed: int = 0, gradient: str = "straight-through"
    ) -> None:
        super().__init__(seed)
        if not 0 <= float(std) < float("inf"):
            raise ValueError(f"expected std >= 0, got {std!r}")
        check_gradient(gradient, self.gradients)
        self.std = float(std)
        self.gradient = gradient

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add noise to images ``(B, C, H, W)`` in [0, 1]."""
        check_images(x)
        generator = self.generator(x.device)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        value = (x + self.std * noise).clamp(0, 1)
        return straight_through(x, value) if self.gradient == "straight-through" else value


def is_finite(x: torch.Tensor) -> bool:
    """Whether a tensor is free of NaN and infinity, from its sum; synchronises with the host."""
    # Sums of half precision overflow.
    return bool(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite())


def check_images(x: torch.Tensor) -> None:
    """Refuse what is no batch of images.

    Raises:
        ValueError: For another shape or dtype, or, on the CPU, NaN or infinity.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(
            f"expected float images (B, C, H, W) in [0, 1], got {x.dtype} of shape {tuple(x.shape)}"
        )
    # On accelerators, looking for NaN would halt every call; there it stays in place.
    if x.device.type == "cpu" and not is_finite(x):
        raise ValueError("expected finite images, got NaN or infinity")
