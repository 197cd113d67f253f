"""Codebooks of patches: product quantisers learnt from images, and the E8 lattice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foolart.plugins.nearest import nearest, neighbours

Shape = tuple[int, int, int]
Progress = Callable[[str, int, int | None], None]

# Large enough for PyTorch to share a tile among threads, small enough to stay in their caches.
TILE = 32768


class ProductQuantizer(nn.Module):
    """The codewords of every slice of a feature map, after chapter 6 of [#Zhang21]_.

    A map with D channels is cut into ``m = D / d`` slices, each into patches of shape
    ``(d, height, width)``; every slice has its own K codewords, or all share one universal book.

    Args:
        codewords: ``(m, K, d * height * width)``, or ``(1, K, ...)`` for a universal codebook,
            float32; the values of a patch in the order (channel, row, column).
        shape: Shape of a patch, ``(d, height, width)``.
        universal: Whether slices share the codebook; then the map may have any multiple of d
            channels.

    Raises:
        ValueError: If the codewords do not fit the shape or are not finite.

    References:
        .. [#Zhang21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021,
           section 6.3. Product quantisation: Jégou, Douze, Schmid, "Product quantization for
           nearest neighbor search", TPAMI 2010.
    """

    codewords: torch.Tensor

    def __init__(self, codewords: torch.Tensor, shape: Shape, *, universal: bool = False) -> None:
        super().__init__()
        check_shape(shape)
        length = shape[0] * shape[1] * shape[2]
        if codewords.ndim != 3 or codewords.shape[-1] != length or 0 in codewords.shape:
            raise ValueError(
                f"expected codewords of shape (slices, K, {length}) for patches of shape {shape}, "
                f"got {tuple(codewords.shape)}"
            )
        if universal and len(codewords) != 1:
            raise ValueError(f"expected one universal codebook, got {len(codewords)}")
        if not bool(codewords.isfinite().all()):
            raise ValueError("expected finite codewords, got NaN or infinity")
        self.shape = shape
        self.universal = universal
        self.register_buffer("codewords", codewords.detach().float().contiguous())

    @classmethod
    def fit(
        cls,
        images: Any,
        codewords: int,
        *,
        patch: int = 3,
        depth: int = 1,
        stride: int = 3,
        universal: bool = False,
        method: str = "kmeans",
        points: int | None = None,
        iterations: int | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        progress: Progress | None = None,
    ) -> ProductQuantizer:
        """Learn codebooks: these are the arguments of :func:`foolart.plugins.codebook_fit.fit`."""
        from foolart.plugins.codebook_fit import fit

        return fit(
            images,
            codewords,
            patch=patch,
            depth=depth,
            stride=stride,
            universal=universal,
            method=method,
            points=points,
            iterations=iterations,
            seed=seed,
            device=device,
            progress=progress,
        )

    @classmethod
    def load(
        cls, path: str | Path, *, shape: Shape | None = None, channels: int | None = None
    ) -> ProductQuantizer:
        """Read a codebook from a safetensors file.

        Args:
            path: The file.
            shape: Shape of a patch that the codebook must have.
            channels: Number of channels of the maps that it must serve.

        Raises:
            ValueError: If there is no such file, it is damaged or no codebook, or its geometry is
                another.
        """
        from foolart.plugins.codebook_file import load

        return load(path, shape=shape, channels=channels)

    def save(self, path: str | Path) -> None:
        """Write the codebook and its geometry to a safetensors file, in one piece or not at all."""
        from foolart.plugins.codebook_file import save

        save(self, path)

    @property
    def count(self) -> int:
        """K, the number of codewords of a slice."""
        return self.codewords.shape[1]

    @property
    def channels(self) -> int | None:
        """The number of channels of the maps it serves; None if universal."""
        return None if self.universal else len(self.codewords) * self.shape[0]

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """The nearest codeword of every patch.

        Args:
            patches: ``(m, N, d * height * width)``, on the device of the codebook, finite.

        Returns:
            A tensor of the same shape and dtype. The search is exact; see
            :func:`foolart.plugins.nearest.nearest`.
        """
        out = patches.new_empty(patches.shape, dtype=self.codewords.dtype)
        for book, points, result in self._slices(patches, out):
            torch.index_select(book, 0, nearest(points, book), out=result)
        return out.to(patches.dtype)

    def candidates(self, patches: torch.Tensor, count: int) -> torch.Tensor:
        """The nearest codewords of every patch, ``(m, N, count, length)``, nearest first."""
        count = min(count, self.count)
        out = patches.new_empty((*patches.shape[:2], count, patches.shape[-1]))
        for book, points, result in self._slices(patches, out):
            result.copy_(book[neighbours(points, book, count)])
        return out

    def _slices(
        self, patches: torch.Tensor, out: torch.Tensor
    ) -> Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        if patches.device != self.codewords.device:
            raise ValueError(
                f"expected inputs on the device of the codebook, {self.codewords.device}, got "
                f"{patches.device}: move the defence with .to(device)"
            )
        if self.universal:
            patches, out = patches.flatten(0, 1)[None], out.view(1, -1, *out.shape[2:])
        elif len(patches) != len(self.codewords):
            raise ValueError(
                f"expected maps of {self.channels} channels, for which this codebook was learnt, "
                f"got {len(patches) * self.shape[0]}"
            )
        return zip(self.codewords, patches, out, strict=True)

    def extra_repr(self) -> str:
        """What ``repr`` tells."""
        return (
            f"codewords={self.count}, slices={len(self.codewords)}, shape={self.shape}, "
            f"universal={self.universal}"
        )


class E8Lattice(nn.Module):
    """The E8 lattice as a codebook that needs no training: ``s * NN(x / s)``.

    E8 is D8 (integers of even sum) and D8 + 1/2. Its points are at most at distance s, and a
    random point at distance ``s * sqrt(8 * .07168)`` = .757 s in the root mean square [#Conway82]_.
    In pixel space, [0, 1], a scale above .2 destroys the image.

    Args:
        scale: s, the unit of the lattice, in the units of the maps.
        shape: Shape of a patch of 8 values, ``(8, 1, 1)`` for 8 consecutive channels at one place
            (the thesis's form), ``(1, 2, 4)`` for blocks of an image. The thesis does not say how
            the 3 channels of an image become vectors of 8: blocks are a choice of ours.

    Raises:
        ValueError: If the scale is not positive or a patch has not 8 values.

    References:
        .. [#Conway82] Conway, Sloane, "Fast quantizing and decoding algorithms for lattice
           quantizers and codes", IEEE Transactions on Information Theory, 1982.
    """

    def __init__(self, scale: float, shape: Shape = (8, 1, 1)) -> None:
        super().__init__()
        if not 0 < float(scale) < float("inf"):
            raise ValueError(f"expected scale > 0, got {scale!r}")
        check_shape(shape)
        if shape[0] * shape[1] * shape[2] != 8:
            raise ValueError(f"expected patches of 8 values, such as (8, 1, 1), got {shape}")
        self.scale = float(scale)
        self.shape = shape

    channels = None

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Map points ``(..., 8)`` to the nearest lattice points, of the same shape and dtype."""
        if points.shape[-1] != 8:
            raise ValueError(f"expected points (..., 8), got {tuple(points.shape)}")
        out = points.new_empty(points.shape)
        # Accelerators want it all at once.
        rows = TILE if points.device.type == "cpu" else max(1, points.numel())
        tiles = torch.split(points.detach().reshape(-1, 8), rows)
        for tile, result in zip(tiles, torch.split(out.view(-1, 8), rows), strict=True):
            x = tile if tile.dtype == torch.float64 else tile.float()
            # Coordinates first, in memory too: every operation runs along the points.
            x = x.T.contiguous() / self.scale
            result.copy_((_nearest_e8(x) * self.scale).T)
        return out

    def candidates(self, points: torch.Tensor, count: int) -> torch.Tensor:
        """The nearest of the lattice point and its 240 neighbours, ``(..., count, 8)``."""
        own: torch.Tensor = self(points)
        roots = _roots(points) * self.scale
        # |P - q - r|^2 without what all r have in common.
        closeness = (points.detach() - own) @ roots.T - roots.square().sum(1) / 2
        index = closeness.topk(min(count, len(roots)), dim=-1).indices
        return own.unsqueeze(-2) + roots[index]

    def extra_repr(self) -> str:
        """What ``repr`` tells."""
        return f"scale={self.scale}, shape={self.shape}"


def _roots(like: torch.Tensor) -> torch.Tensor:
    """Zero and the 240 shortest vectors of E8, ``(241, 8)``."""
    halves = torch.cartesian_prod(*[like.new_tensor([-0.5, 0.5])] * 8)
    pairs = torch.cartesian_prod(*[like.new_tensor([-1.0, 0.0, 1.0])] * 8)
    pairs = pairs[(pairs.abs().sum(1) == 2) | (pairs.abs().sum(1) == 0)]
    return torch.cat([pairs, halves[halves.sum(1).remainder(2) == 0]])


def _nearest_e8(x: torch.Tensor) -> torch.Tensor:
    """The nearest points of E8 to points ``(8, N)``.

    The nearest point of D8 has rounded coordinates; where their sum is odd, the worst one is
    rounded the other way. Likewise in D8 + 1/2: a coordinate that is a away from an integer is
    1/2 - a away from a half, so that the squared distance has 2 - sum(a) more.
    """
    whole, below = x.round(), x.floor()
    away = (x - whole).abs()
    odd, odd_half = _odd_sum(whole), _odd_sum(below)
    excess = 2 - away.sum(0, keepdim=True) + odd_half * 2 * away.amin(0, keepdim=True)
    half = excess < odd * (1 - 2 * away.amax(0, keepdim=True))
    rounded = torch.where(half, below + 0.5, whole)
    error = x - rounded
    # Not argmax, which takes longer than to find the maximum, too.
    worst = error.abs().max(0, keepdim=True).indices
    step = torch.where(half, odd_half, odd)
    return rounded.scatter_add_(0, worst, step.copysign(error.gather(0, worst)))


def _odd_sum(integers: torch.Tensor) -> torch.Tensor:
    """Whether the sums of columns are odd, 0 or 1; remainder takes as long as all of it."""
    total = integers.sum(0, keepdim=True)
    return total - 2 * (total / 2).floor()


def check_shape(shape: Shape) -> None:
    """Refuse a shape of a patch that is not three positive integers.

    Raises:
        ValueError: Naming what was given.
    """
    if len(shape) != 3 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"expected the shape of a patch as (depth, height, width), got {shape!r}")
