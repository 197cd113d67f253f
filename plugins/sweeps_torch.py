"""Solving with a nested-dissection factor on PyTorch: the fastest path, on CPU and CUDA."""

from __future__ import annotations

from dataclasses import dataclass

import eagerpy as ep
import torch
from torch import Tensor

from foolart.plugins.dissection import Factor
from foolart.plugins.precision import exact_products


class Pixels:
    """Some pixels of all fronts of a level: where they lie, and a buffer to multiply them in.

    Args:
        views: Views of the workspace, each ``(..., C, length)`` or, for a single view,
            ``(..., C, height, width)``; the leading axes count N fronts.

    Attributes:
        rows: The buffer, ``(N, C, pixels)``.
    """

    def __init__(self, *views: Tensor) -> None:
        self.views = views
        leading = views[0].shape[: views[0].dim() - (2 if len(views) == 1 else 1)]
        lengths = [view.shape[len(leading) :].numel() for view in views]
        joined = views[0].new_empty((*leading, sum(lengths)))
        self.rows = joined.view(-1, leading[-1], sum(lengths))
        self.parts = [
            part.view(view.shape) if len(views) == 1 else part
            for part, view in zip(torch.split(joined, lengths, -1), views, strict=True)
        ]
        self.joined = self.parts[0] if len(views) == 1 else joined

    def gather(self) -> Tensor:
        """Read the pixels from the workspace into the rows."""
        if len(self.views) == 1:
            self.joined.copy_(self.views[0])
        else:
            torch.cat(self.views, -1, out=self.joined)
        return self.rows

    def scatter(self) -> None:
        """Write the rows to the workspace."""
        for view, part in zip(self.views, self.parts, strict=True):
            view.copy_(part)

    def add(self) -> None:
        """Add the rows to the workspace."""
        for view, part in zip(self.views, self.parts, strict=True):
            view.add_(part)


@dataclass(frozen=True)
class Level:
    """The fronts of one level: their factors, the pixels they eliminate, and their rings.

    Attributes:
        inverse: scale * A_SS^-1, ``(N, S, S)``.
        transfer: -A_RS A_SS^-1, ``(N, R, S)``.
        f: The eliminated pixels, to hold their right-hand side.
        x: The same pixels, to hold their solution.
        ring: The pixels of the rings.
    """

    inverse: Tensor
    transfer: Tensor
    f: Pixels
    x: Pixels
    ring: Pixels


class TorchSweeps:
    """The solve x = scale (I - alpha W~)^-1 f with a given factor.

    Everything happens in one workspace, the padded grid with a line of zeros above and on the
    left, whose views are made once. The channels are the *rows* of the products, which reads the
    factor several times faster than columns would. Not to be shared between threads.

    Args:
        factor: The factor, made with PyTorch on the device to solve on.
    """

    def __init__(self, factor: Factor) -> None:
        self.factor = factor
        self.channels = 0

    def __call__(self, f: ep.Tensor) -> ep.Tensor:
        """Solve for a right-hand side ``(G, C, H, W)`` in the dtype of the factor."""
        if self.channels != f.shape[1]:
            self._allocate(f.shape[1])
        with torch.no_grad(), exact_products(f):
            # What lies beyond the image must not keep what an earlier solve, perhaps of NaN, left.
            for padding in self.outside:
                padding.zero_()
            self.image.copy_(f.raw)
            self._up()
            self._down()
            return ep.astensor(self.image.clone())

    @property
    def nbytes(self) -> int:
        """Bytes that the factor takes."""
        return self.factor.nbytes

    def _up(self) -> None:
        """Eliminate, from the leaves to the root."""
        torch.bmm(self.leaf.f.gather(), self.leaf.inverse, out=self.leaf.x.rows)
        # A ring pixel meets one pixel of a leaf: this reads the transfer once a solve, not twice.
        for line, edge, coupling in zip(
            self.leaf.ring.views, self.edges, self.coupling, strict=True
        ):
            line.addcmul_(edge, coupling)
        for level in self.levels:
            f = level.f.gather()
            torch.bmm(f, level.transfer.transpose(1, 2), out=level.ring.rows)
            torch.bmm(f, level.inverse, out=level.x.rows)
            level.ring.add()

    def _down(self) -> None:
        """Substitute back, from the root to the leaves."""
        torch.bmm(self.last_f.gather(), self.factor.root, out=self.last_x.rows)
        self.last_x.scatter()
        for level in (*reversed(self.levels), self.leaf):
            torch.baddbmm(level.x.rows, level.ring.gather(), level.transfer, out=level.x.rows)
            level.x.scatter()

    def _allocate(self, channels: int) -> None:
        """Make the workspace and all its views for a number of channels."""
        tiling, root = self.factor.tiling, self.factor.root
        height, width = tiling.padded
        self.channels = channels
        self.grid = root.new_zeros((len(root), channels, height + 1, width + 1))
        self.image = self.grid[:, :, 1 : tiling.height + 1, 1 : tiling.width + 1]
        after = (self.grid[:, :, tiling.height + 1 :], self.grid[..., tiling.width + 1 :])
        self.outside = [
            lines for lines in (self.grid[:, :, 0], self.grid[..., 0], *after) if lines.numel()
        ]
        self.leaf, *self.levels = [self._level(index) for index in range(tiling.depth)]
        block = self.leaf.x.joined
        self.edges = (block[..., 0, :], block[..., -1, :], block[..., 0], block[..., -1])
        lengths = [line.shape[-1] for line in self.leaf.ring.views]
        parts = torch.split(self.factor.coupling.unsqueeze(3), lengths, -1)
        self.coupling = [part.contiguous() for part in parts]
        whole = self._regions(height, width)[:, 0, 0]
        last = (whole[..., -1, 1:-1], whole[..., 1:-1, -1], whole[..., -1, -1:])
        self.last_f, self.last_x = (Pixels(*_cross(whole), *last) for _ in range(2))

    def _level(self, index: int) -> Level:
        front, tiling = self.factor.fronts[index], self.factor.tiling
        regions = self._regions(tiling.p_h << index, tiling.p_w << index)
        eliminated = _cross(regions) if index else (regions[..., 1:-1, 1:-1],)
        rows = (regions[..., 0, 1:-1], regions[..., -1, 1:-1])
        columns = (regions[..., 1:-1, 0], regions[..., 1:-1, -1])
        return Level(
            front.inverse.flatten(0, 2),
            front.transfer.flatten(0, 2),
            Pixels(*eliminated),
            Pixels(*eliminated),
            Pixels(*rows, *columns),
        )

    def _regions(self, p_h: int, p_w: int) -> Tensor:
        """The regions of a level with the lines around them, ``(G, rows, columns, C, ., .)``."""
        windows: Tensor = self.grid.unfold(2, p_h + 1, p_h).unfold(3, p_w + 1, p_w)
        return windows.permute(0, 2, 3, 1, 4, 5)


def _cross(regions: Tensor) -> tuple[Tensor, ...]:
    """The lines in the middle of regions: the row, the column above it and the column below."""
    i, j = regions.shape[-2] // 2, regions.shape[-1] // 2
    return regions[..., i, 1:-1], regions[..., 1:i, j], regions[..., i + 1 : -1, j]
