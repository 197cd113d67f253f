"""How nested dissection cuts the grid of an image, and numbers the pixels of a front.

:mod:`foolart.plugins.dissection` says what leaves, merges and fronts are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]

# What starting one small product costs, in numbers read: measured on CPUs.
PRODUCT_OVERHEAD = 600


@dataclass(frozen=True)
class Tiling:
    """How a grid is cut: ``2**depth x 2**depth`` leaves of ``p_h x p_w`` pixels.

    Pixels that the leaves have beyond the image are padding, without edges. One line of padding
    lies above and one left of the image, so that every region has a whole ring.
    """

    height: int
    width: int
    p_h: int
    p_w: int
    depth: int

    @classmethod
    def of(cls, height: int, width: int) -> Tiling:
        """The tiling of a grid of at least 2x2 pixels with which a solve is fastest."""
        candidates = (
            cls(height, width, max(2, -(-height >> depth)), max(2, -(-width >> depth)), depth)
            for depth in range(1, max(height, width).bit_length() + 1)
        )
        return min(candidates, key=lambda tiling: tiling.cost)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of all leaves together."""
        return self.p_h << self.depth, self.p_w << self.depth

    @property
    def numbering(self) -> tuple[Numbering, ...]:
        """The numbering of a front, for the leaves, every merge and the root."""
        a, b = self.p_h - 1, self.p_w - 1
        merges = (
            Numbering.of_merge((a + 1 << level) - 1, (b + 1 << level) - 1, level == self.depth)
            for level in range(1, self.depth + 1)
        )
        return Numbering.of_leaf(a, b), *merges

    @property
    def size(self) -> int:
        """Numbers that a factor holds, an image."""
        *merges, root = self.numbering
        fronts = zip(self.regions, merges, strict=True)
        return root.eliminated**2 + sum(n * m.eliminated * m.size for n, m in fronts)

    @property
    def regions(self) -> tuple[int, ...]:
        """Number of regions of the leaves and of every merge but the root."""
        return tuple(4 ** (self.depth - level) for level in range(self.depth))

    @property
    def cost(self) -> int:
        """Numbers that a solve reads, an image, and the overhead of its products."""
        fronts = zip(self.regions[1:], self.numbering[1:-1], strict=True)
        again = sum(n * (m.eliminated * m.ring + PRODUCT_OVERHEAD) for n, m in fronts)
        return self.size + again + 2 * PRODUCT_OVERHEAD * sum(self.regions)


@dataclass(frozen=True)
class Numbering:
    """The numbers of a front's pixels: first those eliminated, then the ring.

    Attributes:
        grid: Number of every pixel of a region of ``a x b`` pixels and of the ring around it,
            ``(a + 2, b + 2)``, -1 for pixels that are in no front: corners and what was
            eliminated before.
        eliminated: How many pixels are eliminated.
        ring: How many pixels the ring has.
    """

    grid: Index
    eliminated: int
    ring: int

    @classmethod
    def of_leaf(cls, a: int, b: int) -> Numbering:
        """A leaf: its whole interior is eliminated, row by row."""
        grid = np.full((a + 2, b + 2), -1)
        return cls(grid, *_count(grid, [grid[1:-1, 1:-1]], _ring(grid)))

    @classmethod
    def of_merge(cls, a: int, b: int, root: bool) -> Numbering:
        """A merge: the cross is eliminated, its row first, then its column above and below.

        At the root, so are the bottom row, the right column and the corner between them; what is
        left of the ring is padding.
        """
        grid = np.full((a + 2, b + 2), -1)
        i, j = (a + 1) // 2, (b + 1) // 2
        cross = [grid[i, 1:-1], grid[1:i, j], grid[i + 1 : -1, j]]
        top, bottom, left, right = _ring(grid)
        if root:
            last = [bottom, right, grid[-1:, -1]]
            return cls(grid, *_count(grid, cross + last, [top, left]))
        return cls(grid, *_count(grid, cross, [top, bottom, left, right]))

    @property
    def size(self) -> int:
        """How many pixels the front has."""
        return self.eliminated + self.ring

    def child(self, row: int, column: int) -> Index:
        """The numbers, in this front, of the ring of one of the four merged regions."""
        a, b = self.grid.shape[0] // 2 - 1, self.grid.shape[1] // 2 - 1
        i, j = row * (a + 1), column * (b + 1)
        return np.concatenate(_ring(self.grid[i : i + a + 2, j : j + b + 2]))


def _ring(grid: Index) -> list[Index]:
    return [grid[0, 1:-1], grid[-1, 1:-1], grid[1:-1, 0], grid[1:-1, -1]]


def _count(grid: Index, eliminated: list[Index], ring: list[Index]) -> tuple[int, int]:
    """Number the pixels of the given views of a grid, in their order."""
    start = 0
    for view in (*eliminated, *ring):
        view[...] = np.arange(start, start + view.size).reshape(view.shape)
        start += view.size
    first = sum(view.size for view in eliminated)
    return first, start - first
