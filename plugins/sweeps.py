"""Solving with a nested-dissection factor in any framework: one sweep up, one sweep down.

Slices, concatenations and matrix products only, nothing in place: ``sweeps_torch`` is the same
computation in the memory layout that is fastest on PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import eagerpy as ep

from foolart.plugins.dissection import Factor, Front
from foolart.plugins.pixel_graph import like
from foolart.plugins.precision import exact_products
from foolart.plugins.tiling import Tiling


class Ring(NamedTuple):
    """Values on the rings of regions, each ``(G, rows, columns, C, length)``."""

    top: ep.Tensor
    bottom: ep.Tensor
    left: ep.Tensor
    right: ep.Tensor


class Cross(NamedTuple):
    """Values on the crosses between merged regions, each ``(G, rows, columns, C, length)``."""

    row: ep.Tensor
    upper: ep.Tensor
    lower: ep.Tensor


class Sweeps:
    """The solve x = scale (I - alpha W~)^-1 f with a given factor.

    Args:
        factor: The factor.
        dummy: A tensor of the framework, on the device and in the dtype to solve in.
    """

    def __init__(self, factor: Factor, dummy: ep.Tensor) -> None:
        arrays = [a for front in factor.fronts for a in (front.inverse, front.transfer)]
        self.tiling = factor.tiling
        self.nbytes = factor.nbytes
        self.arrays = [
            like(ep.astensor(array), dummy) for array in (factor.root, factor.coupling, *arrays)
        ]

    def __call__(self, f: ep.Tensor) -> ep.Tensor:
        """Solve for a right-hand side ``(G, C, H, W)``."""
        with exact_products(f):
            if isinstance(f, ep.JAXTensor):
                return ep.astensor(_compiled(self.tiling)([a.raw for a in self.arrays], f.raw))
            return _solve(self.tiling, self.arrays, f)


@lru_cache(maxsize=32)
def _compiled(tiling: Tiling) -> Callable[..., Any]:
    """The solve for one size of images, compiled by JAX: some hundred small steps otherwise."""
    import jax

    def solve(arrays: list[Any], f: Any) -> Any:
        return _solve(tiling, [ep.astensor(array) for array in arrays], ep.astensor(f)).raw

    compiled: Callable[..., Any] = jax.jit(solve)
    return compiled


def _solve(tiling: Tiling, arrays: list[ep.Tensor], f: ep.Tensor) -> ep.Tensor:
    root, coupling, *products = arrays
    fronts = [Front(*pair) for pair in zip(products[::2], products[1::2], strict=True)]
    height, width = tiling.padded
    f = f.pad(((0, 0), (0, 0), (0, height - tiling.height), (0, width - tiling.width)))
    x = _down(tiling, fronts, *_up(tiling, fronts, coupling, root, f))
    return x[:, :, : tiling.height, : tiling.width]


def _up(
    tiling: Tiling, fronts: list[Front], coupling: ep.Tensor, root: ep.Tensor, f: ep.Tensor
) -> tuple[list[ep.Tensor], ep.Tensor]:
    """Eliminate: what each front's pixels would be within a ring of zeros, and the root's."""
    p_h, p_w = tiling.p_h, tiling.p_w
    interior = _regions(f, p_h, p_w)[..., :-1, :-1]
    y = _product(interior.flatten(start=4), fronts[0].inverse)
    block = y.reshape(interior.shape)
    edges = [block[..., 0, :], block[..., -1, :], block[..., 0], block[..., -1]]
    # A ring pixel meets one pixel of a leaf: no product with the transfer is needed.
    solved, update = [y], _join(edges) * coupling.expand_dims(3)
    for front in fronts[1:]:
        cross, outer = _merge(Ring(*_cut(update, _ring_lengths(p_h, p_w))))
        p_h, p_w = 2 * p_h, 2 * p_w
        g = cross + _lines(_regions(f, p_h, p_w))
        solved.append(_product(g, front.inverse))
        update = outer + _product_of_transpose(g, front.transfer)
    cross, outer = _merge(Ring(*_cut(update, _ring_lengths(p_h, p_w))))
    image = _regions(f, 2 * p_h, 2 * p_w)
    ring = Ring(*_cut(outer, _ring_lengths(2 * p_h, 2 * p_w)))
    bottom, right = ring.bottom + image[..., -1, :-1], ring.right + image[..., :-1, -1]
    last = _join([cross + _lines(image), bottom, right, image[..., -1, -1:]])
    return solved, _product(last, root.expand_dims(1).expand_dims(1))


def _down(
    tiling: Tiling, fronts: list[Front], solved: list[ep.Tensor], root: ep.Tensor
) -> ep.Tensor:
    """Substitute back from the root to the leaves, and put the image together again."""
    p_h, p_w = (side // 2 for side in tiling.padded)
    lengths = [*_cross_lengths(p_h, p_w), 2 * p_w - 1, 2 * p_h - 1, 1]
    *lines, bottom, right, corner = _cut(root, lengths)
    cross = Cross(*lines)
    ring = Ring(ep.zeros_like(bottom), bottom, ep.zeros_like(right), right)
    crosses = [cross]
    for front, y in zip(fronts[:0:-1], solved[:0:-1], strict=True):
        ring = _children(ring, cross)
        p_h, p_w = p_h // 2, p_w // 2
        x = y + _product(_join(ring), front.transfer)
        cross = Cross(*_cut(x, _cross_lengths(p_h, p_w)))
        crosses.append(cross)
    ring = _children(ring, cross)
    x = solved[0] + _product(_join(ring), fronts[0].transfer)
    block = x.reshape((*x.shape[:4], p_h - 1, p_w - 1))
    for cross in reversed(crosses):
        block = _surround(block, cross)
    block = ep.concatenate([block, right.expand_dims(-1)], axis=-1)
    last = _join([bottom, corner]).expand_dims(-2)
    return ep.concatenate([block, last], axis=-2)[:, 0, 0]


def _ring_lengths(p_h: int, p_w: int) -> list[int]:
    return [p_w - 1, p_w - 1, p_h - 1, p_h - 1]


def _cross_lengths(p_h: int, p_w: int) -> list[int]:
    """Of the cross between four regions of ``p_h x p_w`` pixels."""
    return [2 * p_w - 1, p_h - 1, p_h - 1]


def _cut(values: ep.Tensor, lengths: Sequence[int]) -> list[ep.Tensor]:
    """Cut the last axis into pieces."""
    return [values[..., end - n : end] for n, end in zip(lengths, accumulate(lengths), strict=True)]


def _join(pieces: Sequence[ep.Tensor]) -> ep.Tensor:
    return ep.concatenate(list(pieces), axis=-1)


def _regions(image: ep.Tensor, height: int, width: int) -> ep.Tensor:
    """Cut ``(G, C, H, W)`` into regions ``(G, rows, columns, C, height, width)``."""
    graphs, channels, rows, columns = image.shape
    image = image.reshape((graphs, channels, rows // height, height, columns // width, width))
    return image.transpose((0, 2, 4, 1, 3, 5))


def _lines(regions: ep.Tensor) -> ep.Tensor:
    """The values of regions on the cross in their middle."""
    i, j = regions.shape[-2] // 2 - 1, regions.shape[-1] // 2 - 1
    return _join([regions[..., i, :-1], regions[..., :i, j], regions[..., i + 1 : -1, j]])


def _merge(ring: Ring) -> tuple[ep.Tensor, ep.Tensor]:
    """What regions pass on to their rings, as seen by 2x2 of them: to the cross, to the ring."""
    (top, top_), (bottom, bottom_) = (
        [Ring(*(line[:, i::2, j::2] for line in ring)) for j in (0, 1)] for i in (0, 1)
    )
    nothing = ep.zeros_like(top.top[..., :1])
    row = [top.bottom + bottom.top, nothing, top_.bottom + bottom_.top]
    cross = _join([*row, top.right + top_.left, bottom.right + bottom_.left])
    outer = [
        *(top.top, nothing, top_.top, bottom.bottom, nothing, bottom_.bottom),
        *(top.left, nothing, bottom.left, top_.right, nothing, bottom_.right),
    ]
    return cross, _join(outer)


def _children(ring: Ring, cross: Cross) -> Ring:
    """The rings of the regions that were merged, from the ring and the cross of the whole."""
    a, b = cross.upper.shape[-1], cross.row.shape[-1] // 2
    row, row_ = cross.row[..., :b], cross.row[..., b + 1 :]
    left, left_ = ring.left[..., :a], ring.left[..., a + 1 :]
    right, right_ = ring.right[..., :a], ring.right[..., a + 1 :]
    return Ring(
        _interleave(ring.top[..., :b], ring.top[..., b + 1 :], row, row_),
        _interleave(row, row_, ring.bottom[..., :b], ring.bottom[..., b + 1 :]),
        _interleave(left, cross.upper, left_, cross.lower),
        _interleave(cross.upper, right, cross.lower, right_),
    )


def _interleave(*quarters: ep.Tensor) -> ep.Tensor:
    """Four tensors of each second region back to one, ``(G, 2 * rows, 2 * columns, C, length)``."""
    graphs, rows, columns, channels, length = quarters[0].shape
    pairs = [ep.stack(list(quarters[i : i + 2]), axis=3) for i in (0, 2)]
    return ep.stack(pairs, axis=2).reshape((graphs, 2 * rows, 2 * columns, channels, length))


def _surround(blocks: ep.Tensor, cross: Cross) -> ep.Tensor:
    """Put 2x2 interiors and the cross between them together to the interior of the whole."""
    halves = [
        ep.concatenate(
            [blocks[:, i::2, 0::2], column.expand_dims(-1), blocks[:, i::2, 1::2]], axis=-1
        )
        for i, column in enumerate((cross.upper, cross.lower))
    ]
    return ep.concatenate([halves[0], cross.row.expand_dims(-2), halves[1]], axis=-2)


def _product(rows: ep.Tensor, matrices: ep.Tensor) -> ep.Tensor:
    return ep.astensor(rows.raw @ matrices.raw)


def _product_of_transpose(rows: ep.Tensor, matrices: ep.Tensor) -> ep.Tensor:
    """``rows @ matrices^T`` without a transposed copy of the matrices, which are the larger."""
    axes = (0, 1, 2, 4, 3)
    return _product(matrices, rows.transpose(axes)).transpose(axes)
