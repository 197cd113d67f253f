"""The exact nearest codewords of many points, without a matrix of all distances."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

# One tile holds ROWS x BLOCK scores: 4 MB, which stay in a core's cache.
ROWS, BLOCK = 512, 2048
ROWS_ON_ACCELERATORS = 8192
# Shares of a sorted codebook that are searched one after the other, as long as points remain.
WINDOWS = (0.1, 0.25, 1.0)


def nearest(points: torch.Tensor, codewords: torch.Tensor) -> torch.Tensor:
    """The index of the codeword nearest to each point in the L2 norm.

    On the CPU through faiss where it is installed, else in tiles over a window of the codebook
    (see :func:`_windowed`); in tiles over the whole codebook on any other device, without a host
    synchronisation. The squared distance of what is found exceeds the smallest by rounding errors
    of ``float32`` at most: about ``1e-6`` of the squared norms, if matrix products keep ``float32``
    (``torch.backends.cuda.matmul.allow_tf32`` gives that up).

    Args:
        points: Points ``(N, D)``, of any float dtype, finite.
        codewords: Codebook ``(K, D)`` on the same device.

    Returns:
        Indices ``(N,)``, int64.
    """
    points, codewords = points.detach().float(), codewords.detach().float()
    if points.device.type == "cpu":
        if has_faiss():
            return _faiss(points, codewords, 1)[:, 0]
        if len(points) >= ROWS and len(codewords) >= BLOCK:
            return _windowed(points, codewords)
    center = codewords.mean(0)
    return _tiles(points - center, codewords - center, None)[1]


def neighbours(points: torch.Tensor, codewords: torch.Tensor, count: int) -> torch.Tensor:
    """The indices ``(N, count)`` of the codewords nearest to each point, nearest first."""
    points, codewords = points.detach().float(), codewords.detach().float()
    count = min(count, len(codewords))
    if points.device.type == "cpu" and has_faiss():
        return _faiss(points, codewords, count)
    center = codewords.mean(0)
    points, codewords = points - center, codewords - center
    bias = -codewords.square().sum(1) / 2
    rows = max(1, ROWS * BLOCK // len(codewords))
    tiles = [
        torch.addmm(bias, tile, codewords.T).topk(count, dim=1).indices
        for tile in torch.split(points, rows)
    ]
    return torch.cat(tiles) if tiles else points.new_zeros((0, count), dtype=torch.long)


@cache
def has_faiss() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def _faiss(points: torch.Tensor, codewords: torch.Tensor, count: int) -> torch.Tensor:
    import faiss

    with _blas(faiss):
        _, index = faiss.knn(
            np.ascontiguousarray(points.numpy()), np.ascontiguousarray(codewords.numpy()), count
        )
    return torch.from_numpy(index)


@contextmanager
def _blas(faiss: object) -> Iterator[None]:
    # faiss compares one by one, 15 times slower, when few points come in one call.
    settings = faiss.cvar  # type: ignore[attr-defined]
    before = settings.distance_compute_blas_threshold
    settings.distance_compute_blas_threshold = 1
    try:
        yield
    finally:
        settings.distance_compute_blas_threshold = before


def _tiles(
    points: torch.Tensor, codewords: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest score ``<q, c> - |c|^2 / 2`` of each point, and its codeword."""
    bias = -codewords.square().sum(1) / 2 if bias is None else bias
    rows = ROWS if points.device.type == "cpu" else ROWS_ON_ACCELERATORS
    scores = points.new_empty(len(points))
    index = torch.empty(len(points), dtype=torch.long, device=points.device)
    for row in range(0, len(points), rows):
        tile = points[row : row + rows]
        best, found = torch.addmm(bias[:BLOCK], tile, codewords[:BLOCK].T).max(1)
        for start in range(BLOCK, len(codewords), BLOCK):
            block = slice(start, start + BLOCK)
            score, here = torch.addmm(bias[block], tile, codewords[block].T).max(1)
            better = score > best
            best = torch.where(better, score, best)
            found = torch.where(better, here + start, found)
        scores[row : row + rows], index[row : row + rows] = best, found
    return scores, index


def _windowed(points: torch.Tensor, codewords: torch.Tensor) -> torch.Tensor:
    """Search only codewords that are near on the first principal axis, as far as that is exact.

    Points and codewords are sorted along the axis, so that the codewords near a tile of points are
    a slice. A codeword outside the slice is at least as far as the slice's edge is along the axis:
    points whose nearest codeword within is nearer than that are done, the others go into a wider
    slice, at last the whole codebook. On patches of images, 3 x 3 pixels, 9 in 10 end in the first.
    """
    center = codewords.mean(0)
    codewords, points = codewords - center, points - center
    axis = torch.linalg.eigh(codewords.T @ codewords).eigenvectors[:, -1]
    along, order = torch.sort(codewords @ axis)
    codewords = codewords[order]
    bias = -codewords.square().sum(1) / 2
    position, arrangement = torch.sort(points @ axis)
    points = points[arrangement]
    result = torch.empty_like(arrangement)
    left = torch.arange(len(points))
    for share in WINDOWS:
        width, count = round(share * len(codewords)), len(points)
        middles = torch.arange(ROWS // 2, count + ROWS // 2, ROWS).clamp(max=count - 1)
        starts = torch.searchsorted(along, position[middles]) - width // 2
        starts = starts.clamp(0, len(codewords) - width)
        scores, found = torch.empty_like(position), torch.empty_like(left)
        for tile, start in enumerate(starts.tolist()):
            rows, window = slice(tile * ROWS, (tile + 1) * ROWS), slice(start, start + width)
            scores[rows], found[rows] = _tiles(points[rows], codewords[window], bias[window])
        first = starts.repeat_interleave(ROWS)[:count]
        result[left] = found + first
        if width == len(codewords):
            break
        # The edges are the first codewords outside; past the ends of the codebook there is none.
        edges = torch.nn.functional.pad(along, (1, 1), value=torch.inf)
        below, above = edges[first], edges[first + width + 1]
        gap = torch.minimum((position - below).abs(), (above - position).abs())
        inside = (below.isinf() | (position > below)) & (position < above)
        norms = points.square().sum(1)
        # Rounding errors of the norms must not let a point stop too early.
        done = inside & (norms - 2 * scores + 1e-6 * (norms + 1) < gap.square())
        remaining = (~done).nonzero()[:, 0]
        if len(remaining) == 0:
            break
        left, points, position = left[remaining], points[remaining], position[remaining]
    index = torch.empty_like(result)
    index[arrangement] = order[result]
    return index
