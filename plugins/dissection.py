"""Nested dissection of the pixel grid: a direct solver whose numerics are batched products.

Every image of a size has the same grid, so the order of elimination is the same for all of them
and for all regions of one level. The grid is cut into leaves of ``p_h x p_w`` pixels, of which the
last row and the last column are lines that separate leaves. The interiors of the leaves are
eliminated first; then 2x2 neighbouring regions are merged by eliminating the cross of lines
between them, and so on up to the whole image, whose last cross goes together with the bottom row
and the right column. A *front* is what one such elimination sees: the eliminated pixels S and the
ring R of line pixels around them (top, bottom, left, right, without the corners).

References:
    .. [#George73] Alan George, "Nested dissection of a regular finite element mesh", SIAM Journal
        on Numerical Analysis 10(2), 1973.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import eagerpy as ep
import numpy as np

from foolart.plugins.pixel_graph import PixelGraph
from foolart.plugins.tiling import Index, Numbering, Tiling

# Numbers that one chunk of fronts may hold while it is factored, 256 MiB in float64.
CHUNK = 2**25


@dataclass(frozen=True)
class Front:
    """All fronts of one level, factored; raw tensors of NumPy or PyTorch.

    With A the matrix of the front and scale the factor of the right-hand side:

    Attributes:
        inverse: scale * A_SS^-1, ``(G, rows, columns, S, S)``, symmetric.
        transfer: -A_RS A_SS^-1, ``(G, rows, columns, R, S)``: what the ring adds to the eliminated
            pixels and, transposed, what these pass on to the ring.
    """

    inverse: Any
    transfer: Any


@dataclass(frozen=True)
class Factor:
    """The factored system: scale * (I - alpha W~)^-1 as a sequence of products.

    Attributes:
        tiling: How the grid was cut.
        fronts: The leaves, then every merge but the last.
        coupling: -A_RS of the leaves, ``(G, rows, columns, R)``, over scale: a ring pixel meets
            one pixel of the interior.
        root: scale * A^-1 of the last front, ``(G, S, S)``.
    """

    tiling: Tiling
    fronts: tuple[Front, ...]
    coupling: Any
    root: Any

    @property
    def nbytes(self) -> int:
        """Bytes that the factor holds."""
        arrays = [self.coupling, self.root]
        arrays += [a for front in self.fronts for a in (front.inverse, front.transfer)]
        return sum(int(a.nbytes) for a in arrays)


def factorize(graph: PixelGraph, alpha: float, dtype: Any) -> Factor:
    """Factor (I - alpha W~) / (1 - alpha) for a solve in ``dtype``.

    Args:
        graph: Pixel graphs of NumPy or PyTorch, in ``float64``.
        alpha: In (0, 1).
        dtype: The dtype of the framework to round the factor to.

    Returns:
        The factor, on the device of the graph.
    """
    graphs, height, width = graph.shape
    tiling = Tiling.of(height, width)
    largest = max(n * m.size**2 for n, m in zip(tiling.regions, tiling.numbering, strict=False))
    step = max(1, CHUNK // largest)
    chunks = [
        _factorize(
            tiling,
            _edges(graph.vertical[i : i + step], tiling, -alpha),
            _edges(graph.horizontal[i : i + step], tiling, -alpha),
            1 - alpha,
            dtype,
        )
        for i in range(0, graphs, step)
    ]
    return chunks[0] if len(chunks) == 1 else _join(chunks)


def _factorize(
    tiling: Tiling, vertical: ep.Tensor, horizontal: ep.Tensor, scale: float, dtype: Any
) -> Factor:
    """Factor some graphs, given the entries of the matrix at the edges that end in each pixel."""
    leaf, *merges = tiling.numbering
    a, b = leaf.grid.shape[0] - 2, leaf.grid.shape[1] - 2
    up, across = _tiles(vertical, a + 1, b + 1), _tiles(horizontal, a + 1, b + 1)
    front = _front(leaf, up)
    _couple(front, leaf.grid[:-1, 1:-1], leaf.grid[1:, 1:-1], up[..., : a + 1, :b])
    _couple(front, leaf.grid[1:-1, :-1], leaf.grid[1:-1, 1:], across[..., :a, : b + 1])
    ring = (up[..., 0, :b], up[..., a, :b], across[..., :a, 0], across[..., :a, b])
    coupling = ep.concatenate([ep.astensor(r) for r in ring], axis=-1) * (-1 / scale)
    inverse, transfer, update = _eliminate(front, leaf.eliminated)
    fronts = [Front(_round(scale * inverse, dtype), _round(transfer, dtype))]
    for merge in merges:
        a, b = merge.grid.shape[0] - 2, merge.grid.shape[1] - 2
        i, j = (a + 1) // 2, (b + 1) // 2
        up, across = _tiles(vertical, a + 1, b + 1), _tiles(horizontal, a + 1, b + 1)
        front = _front(merge, up)
        for row in (0, 1):
            for column in (0, 1):
                index = merge.child(row, column)
                front[..., index[:, None], index] += update[:, row::2, column::2]
        _couple(front, merge.grid[:-1, j], merge.grid[1:, j], up[..., : a + 1, j - 1])
        _couple(front, merge.grid[i, :-1], merge.grid[i, 1:], across[..., i - 1, : b + 1])
        if merge is merges[-1]:
            _couple(front, merge.grid[1:-1, -1], merge.grid[2:, -1], up[..., 1 : a + 1, b])
            _couple(front, merge.grid[-1, 1:-1], merge.grid[-1, 2:], across[..., a, 1 : b + 1])
            s = merge.eliminated
            root = scale * _inverse(front[:, 0, 0, :s, :s])
        else:
            inverse, transfer, update = _eliminate(front, merge.eliminated)
            fronts.append(Front(_round(scale * inverse, dtype), _round(transfer, dtype)))
    return Factor(tiling, tuple(fronts), _round(coupling.raw, dtype), _round(root, dtype))


def _edges(weights: ep.Tensor, tiling: Tiling, factor: float) -> ep.Tensor:
    """Entries of the matrix at edges, at the pixel where each edge ends, on the padded grid."""
    height, width = tiling.padded
    top, left = tiling.height - weights.shape[2], tiling.width - weights.shape[3]
    paddings = ((0, 0), (top, height - tiling.height), (left, width - tiling.width))
    return (weights[:, 0] * factor).pad(paddings)


def _tiles(edges: ep.Tensor, height: int, width: int) -> Any:
    """Cut ``(G, H, W)`` into raw regions ``(G, rows, columns, height, width)``."""
    graphs, rows, columns = edges.shape[0], edges.shape[1] // height, edges.shape[2] // width
    return edges.raw.reshape(graphs, rows, height, columns, width).swapaxes(2, 3)


def _front(numbering: Numbering, tiles: Any) -> Any:
    """The matrices of fronts before any edge is added: the unit diagonal of what is eliminated."""
    n, s = numbering.size, np.arange(numbering.eliminated)
    front = ep.zeros(ep.astensor(tiles), (*tiles.shape[:3], n, n)).raw
    front[..., s, s] = 1
    return front


def _couple(front: Any, start: Index, end: Index, entries: Any) -> None:
    """Add the entries of edges between numbered pixels of a front, symmetrically."""
    i, j = start.ravel(), end.ravel()
    entries = entries.reshape(*entries.shape[:3], -1)
    front[..., i, j] += entries
    front[..., j, i] += entries


def _eliminate(front: Any, s: int) -> tuple[Any, Any, Any]:
    """A_SS^-1, -A_RS A_SS^-1 and the Schur complement of the ring."""
    inverse = _inverse(front[..., :s, :s])
    transfer = -(front[..., s:, :s] @ inverse)
    return inverse, transfer, front[..., s:, s:] + transfer @ front[..., :s, s:]


def _inverse(matrices: Any) -> Any:
    if isinstance(matrices, np.ndarray):
        return np.linalg.inv(matrices)
    import torch

    return torch.cholesky_inverse(torch.linalg.cholesky(matrices))


def _round(values: Any, dtype: Any) -> Any:
    if isinstance(values, np.ndarray):
        return values.astype(dtype, order="C")
    # LAPACK leaves columns together; products read rows faster.
    return values.to(dtype).contiguous()


def _join(chunks: list[Factor]) -> Factor:
    def join(*parts: Any) -> Any:
        return ep.concatenate([ep.astensor(p) for p in parts]).raw

    first = chunks[0]
    fronts = zip(*(chunk.fronts for chunk in chunks), strict=True)
    return Factor(
        first.tiling,
        tuple(
            Front(join(*(f.inverse for f in level)), join(*(f.transfer for f in level)))
            for level in fronts
        ),
        join(*(chunk.coupling for chunk in chunks)),
        join(*(chunk.root for chunk in chunks)),
    )
