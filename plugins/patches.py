"""Patch replacement: every patch of an image or feature map gives way to a clean one."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from foolart.plugins.filters import is_finite
from foolart.plugins.patch_grid import average, check_map, check_stride, patches_of, tile
from foolart.plugins.soft_assignment import Quantizer, soft_assignment
from foolart.plugins.straight_through import GRADIENTS, check_gradient, straight_through

STRATEGIES = ("plain", "l2", "linf", "linear")
WINDOWS = ("uniform", "tent", "center")
# Patches of as many images as this many floats hold are in memory at a time: 16 MB.
FLOATS_AT_ONCE = 2**22


class PatchReplacer(nn.Module):
    """Replace the patches of a map by codewords, after chapter 6 of [#Zhang21]_.

    The map F is cut into slices of d channels and patches P, which become P' by a strategy with
    delta = q(P) - P: ``"plain"`` P + delta; ``"l2"`` P + delta min(1, epsilon / ||delta||_2);
    ``"linf"`` P + clip(delta, +-epsilon); ``"linear"`` P + epsilon delta. Patches that overlap are
    averaged, fold(w P') / fold(w). A border that the stride does not reach is replicated and cut
    off again. The thesis gives neither the size of patches nor the stride: 3 and 3 are ours.

    Patch replacement hides gradients; it does not remove adversarial examples. Attacked with its
    straight-through gradient, its robust accuracy is what the network has without it, or near.

    Args:
        quantizer: A codebook, :class:`~foolart.plugins.codebook.ProductQuantizer` or
            :class:`~foolart.plugins.codebook.E8Lattice`, on the scale of the maps.
        stride: c, the step between patches, at most their side; by default their side, so that
            they do not overlap.
        strategy: One of ``"plain"``, ``"l2"``, ``"linf"``, ``"linear"``.
        epsilon: Strength of all strategies but ``"plain"``, in the units of the map (``"l2"``: of
            the norm of a patch; ``"linear"``: a share from 0 to 1). 0 changes nothing.
        window: Weights of overlapping patches: ``"uniform"``, ``"tent"`` (falling off linearly) or
            ``"center"`` (only a patch's central value; stride 1, odd patches).
        offset: Rows and columns by which the grid of patches is moved up and left, from 0 to the
            side less one.
        gradient: What backward passes see: ``"straight-through"``, the identity (BPDA);
            ``"true"``, the derivative where it exists, zero for ``"plain"``; ``"surrogate"``, the
            derivative of a soft assignment to near codewords in place of the hard one.
        candidates: Number of codewords of the soft assignment.

    Raises:
        ValueError: If a stride leaves holes, or an argument is out of range.

    References:
        .. [#Zhang21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021.
    """

    gradients: ClassVar[tuple[str, ...]] = GRADIENTS

    def __init__(
        self,
        quantizer: Quantizer,
        *,
        stride: int | None = None,
        strategy: str = "plain",
        epsilon: float | None = None,
        window: str = "uniform",
        offset: tuple[int, int] = (0, 0),
        gradient: str = "straight-through",
        candidates: int = 16,
    ) -> None:
        super().__init__()
        height, width = quantizer.shape[1:]
        check_stride(stride, (height, width))
        check_strategy(strategy, epsilon)
        check_gradient(gradient)
        if window not in WINDOWS:
            raise ValueError(f"expected window to be one of {', '.join(WINDOWS)}, got {window!r}")
        self.stride = (height, width) if stride is None else (stride, stride)
        odd = height % 2 == width % 2 == 1
        if window == "center" and not (odd and self.stride == (1, 1)):
            raise ValueError(
                'expected stride 1 and patches of odd sides for window="center" (it leaves holes '
                f"otherwise), got stride {self.stride[0]} and {height} x {width}"
            )
        if candidates < 1:
            raise ValueError(f"expected candidates >= 1, got {candidates!r}")
        pair = isinstance(offset, tuple | list) and len(offset) == 2
        if not (pair and 0 <= offset[0] < height and 0 <= offset[1] < width):
            raise ValueError(
                f"expected offset from (0, 0) to {(height - 1, width - 1)}, got {offset}"
            )
        self.quantizer = quantizer
        self.strategy = strategy
        self.epsilon = epsilon
        self.window = window
        self.offset = offset
        self.gradient = gradient
        self.candidates = candidates

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Replace the patches of maps ``(B, D, H, W)``, on the device of the codebook.

        NaN and infinity raise on the CPU. On accelerators, where looking for them would halt every
        call, they are left in place.

        Raises:
            ValueError: If the maps do not fit the codebook or are smaller than a patch.
        """
        self._check(x)
        if len(x) == 0:
            return x
        tracked = torch.is_grad_enabled() and x.requires_grad
        if tracked and self.gradient == "straight-through":
            with torch.no_grad():
                value = self._replace(x)
            return straight_through(x, value)
        return self._replace(x)

    def _replace(self, x: torch.Tensor) -> torch.Tensor:
        _, height, width = self.quantizer.shape
        overlap = height * width / (self.stride[0] * self.stride[1])
        images = int(FLOATS_AT_ONCE / (overlap * x.shape[1:].numel()))
        chunks = [self._replace_chunk(chunk) for chunk in torch.split(x, max(1, images))]
        return torch.cat(chunks) if len(chunks) > 1 else chunks[0]

    def _replace_chunk(self, x: torch.Tensor) -> torch.Tensor:
        padded = self._pad(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
        patches = patches_of(padded, self.quantizer.shape, self.stride)
        with torch.no_grad():
            q = self.quantizer(patches)
            value = self._assemble(padded, patches, self._strategy(patches, q))
            if x.device.type != "cpu":
                value = torch.where(padded.isfinite(), value, padded)
        if torch.is_grad_enabled() and x.requires_grad:
            if self.gradient == "surrogate":
                q = soft_assignment(patches, q, self.quantizer, self.candidates)
            form = average(self._strategy(patches, q), padded, self.stride, self._weights(padded))
            # Connected even where the derivative is zero everywhere, as that of "plain" is.
            value = value + (form - form.detach()) + 0 * padded
        top, left, _, _ = self._margins()
        return value[..., top : top + x.shape[-2], left : left + x.shape[-1]].to(x.dtype)

    def _strategy(self, patches: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        if self.strategy == "plain" or self.epsilon is None:
            return q
        if self.strategy == "linear":
            return torch.lerp(patches, q, self.epsilon)
        delta = q - patches
        if self.strategy == "linf":
            near = delta.abs() <= self.epsilon
            return torch.where(near, q, patches + delta.clamp(-self.epsilon, self.epsilon))
        norm = torch.linalg.vector_norm(delta, dim=-1, keepdim=True)
        reduced = delta * (self.epsilon / norm.clamp(min=torch.finfo(delta.dtype).tiny))
        return torch.where(norm <= self.epsilon, q, patches + reduced)

    def _assemble(
        self, padded: torch.Tensor, patches: torch.Tensor, replaced: torch.Tensor
    ) -> torch.Tensor:
        if self.stride == self.quantizer.shape[1:]:
            return tile(replaced, padded, self.quantizer.shape)
        # The average of changes, not of values: what no patch changes stays the same to the bit.
        return padded + average(replaced - patches, padded, self.stride, self._weights(padded))

    def _weights(self, like: torch.Tensor) -> torch.Tensor:
        """The weights w of a patch, ``(d, height, width)``."""
        sides = []
        for side in self.quantizer.shape[1:]:
            distance = (torch.arange(side, device=like.device) - (side - 1) / 2).abs()
            if self.window == "uniform":
                sides.append(torch.ones_like(distance))
            elif self.window == "tent":
                sides.append(1 - distance / ((side + 1) / 2))
            else:
                sides.append((distance == 0).float())
        window = (sides[0][:, None] * sides[1]).to(like.dtype)
        return window.expand(self.quantizer.shape)

    def _margins(self) -> tuple[int, int, int, int]:
        """Rows and columns needed before (top, left) and after (bottom, right) the map."""
        if self.window != "center":
            return *self.offset, 0, 0
        a, b = self.quantizer.shape[1] // 2, self.quantizer.shape[2] // 2
        return max(a, self.offset[0]), max(b, self.offset[1]), a, b

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        top, left, bottom, right = self._margins()
        padding = [left, right, top, bottom]
        for axis, (before, after) in enumerate(((top, bottom), (left, right))):
            side, step = self.quantizer.shape[1 + axis], self.stride[axis]
            length = before + x.shape[2 + axis] + after
            padding[3 - 2 * axis] += -(length - side) % step
        return F.pad(x, padding, mode="replicate") if any(padding) else x

    def _check(self, x: torch.Tensor) -> None:
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                f"expected float maps (B, D, H, W), got {x.dtype} of shape {tuple(x.shape)}"
            )
        check_map(x, self.quantizer.shape)
        channels = getattr(self.quantizer, "channels", None)
        if channels not in (None, x.shape[1]):
            raise ValueError(
                f"expected maps of {channels} channels, for which the codebook was learnt, got "
                f"{x.shape[1]}"
            )
        if x.device.type == "cpu" and not is_finite(x):
            raise ValueError("expected finite maps, got NaN or infinity")

    def extra_repr(self) -> str:
        """What ``repr`` tells."""
        return (
            f"stride={self.stride}, strategy={self.strategy!r}, epsilon={self.epsilon}, "
            f"window={self.window!r}, offset={self.offset}, gradient={self.gradient!r}"
        )


def check_strategy(strategy: str, epsilon: float | None) -> None:
    """Refuse an unknown strategy, or an epsilon that does not fit it.

    Raises:
        ValueError: Naming what is accepted.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"expected strategy to be one of {', '.join(STRATEGIES)}, got {strategy!r}"
        )
    if (strategy == "plain") != (epsilon is None):
        raise ValueError(
            f"expected epsilon for the strategies l2, linf and linear only, got {epsilon!r} for "
            f"{strategy!r}"
        )
    if epsilon is not None:
        limit = 1.0 if strategy == "linear" else float("inf")
        if not 0 <= float(epsilon) <= limit:
            raise ValueError(f"expected epsilon from 0 to {limit}, got {epsilon!r}")
