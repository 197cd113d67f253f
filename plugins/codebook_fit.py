"""Learning the codewords of a :class:`~foolart.plugins.codebook.ProductQuantizer`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from foolart.plugins.codebook import ProductQuantizer, Progress
from foolart.plugins.nearest import has_faiss, nearest
from foolart.plugins.patch_grid import check_stride, patches_of

Array = np.ndarray[Any, np.dtype[np.float32]]

# As faiss: more points a centroid help little, fewer give poor centroids.
MOST_POINTS, LEAST_POINTS = 256, 39
# The sample of points takes at most 1 GB, unless told otherwise.
SAMPLE_FLOATS = 2**28
IMAGES_AT_ONCE, FLOATS_AT_ONCE = 32, 2**22


def fit(
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
    """Learn codebooks from clean images, or from the clean feature maps of a layer.

    The images are read once and only a uniform sample of their patches is kept (reservoir
    sampling), the same places for all slices. The result depends on the seed and the order of the
    images, not on how they are cut into batches.

    Args:
        images: An array or tensor ``(N, D, H, W)``, or an iterable of such batches; a batch may be
            a tuple whose first entry counts, as data loaders yield. Values on the scale on which
            the defence will run, [0, 1] for images.
        codewords: K, the number of codewords of a slice.
        patch: Side of the square patches, 2a + 1 in the thesis.
        depth: d, the channels of a slice; it divides D.
        stride: c, the step between the patches that are learnt from.
        universal: One codebook for all slices, instead of one each.
        method: ``"kmeans"`` (faiss), ``"minibatch"`` (a k-means on batches of points, on any
            device, for K that faiss cannot train in reasonable time) or ``"sample"`` (K patches
            drawn at random, no k-means: for the largest K).
        points: How many patches of a slice to learn from; by default 256 a codeword as far as the
            images have them and 1 GB holds them (exactly K for ``"sample"``).
        iterations: Passes over the points, 25 for ``"kmeans"`` and 3 for ``"minibatch"`` by
            default.
        seed: Of the sample and of k-means.
        device: Where ``"minibatch"`` runs. The result is on the CPU.
        progress: Called as ``progress(stage, done, total)``, for the stage ``"images"`` with the
            total unknown (None) and for ``"slices"``.

    Returns:
        The codebook.

    Raises:
        ValueError: If K exceeds the number of patches, the depth does not divide the channels, an
            image is smaller than a patch or not finite, or an argument is out of range.
        ImportError: If ``method="kmeans"`` and faiss is missing.
    """
    if codewords < 1 or patch < 1 or depth < 1:
        raise ValueError(
            f"expected codewords, patch and depth >= 1, got {codewords}, {patch} and {depth}"
        )
    if method not in _METHODS:
        raise ValueError(f"expected method to be one of {', '.join(_METHODS)}, got {method!r}")
    if method == "kmeans" and not has_faiss():
        raise ImportError('method="kmeans" needs faiss: pip install "foolart[patches]"')
    if points is not None and points < codewords:
        raise ValueError(f"expected points >= codewords, got {points} and {codewords}")
    check_stride(stride, (patch, patch))
    shape = (depth, patch, patch)
    sample = _Reservoir(codewords if method == "sample" else points, codewords, seed)
    done = 0
    for batch in _batches(images):
        here = patches_of(batch.float(), shape, (stride, stride))
        sample.add(_pool(here) if universal else here)
        done += len(batch)
        if progress:
            progress("images", done, None)
    found = sample.points()
    if found.shape[1] < codewords:
        raise ValueError(
            f"expected at most as many codewords as patches, got codewords={codewords} and "
            f"{found.shape[1]} patches: give more images, a smaller stride or fewer codewords"
        )
    if method != "sample" and found.shape[1] < LEAST_POINTS * codewords:
        warnings.warn(
            f"learning {codewords} codewords from {found.shape[1]} patches a slice; "
            f"{LEAST_POINTS * codewords} or more give better ones",
            stacklevel=3,
        )
    books = []
    for k, slice_ in enumerate(found):
        books.append(_METHODS[method](slice_, codewords, iterations, seed + k, device))
        if progress:
            progress("slices", k + 1, len(found))
    return ProductQuantizer(torch.stack(books), shape, universal=universal)


class _Reservoir:
    """A uniform sample of a stream of unknown length, whatever its batches (algorithm R)."""

    def __init__(self, size: int | None, codewords: int, seed: int) -> None:
        self.size, self.codewords = size, codewords
        self.seen = 0
        self.kept: Array | None = None
        self.random = np.random.default_rng(seed)

    def add(self, patches: torch.Tensor) -> None:
        """Take some of the patches ``(m, n, length)`` in."""
        m, n, length = patches.shape
        if self.size is None:
            room = SAMPLE_FLOATS // (m * length)
            self.size = max(self.codewords, min(MOST_POINTS * self.codewords, room))
        if self.kept is None:
            # Memory is taken as it is filled: most streams are shorter than the reservoir.
            self.kept = np.empty((m, self.size, length), dtype=np.float32)
        if self.kept.shape != (m, self.size, length):
            raise ValueError(
                f"expected all images to have the same channels, got {m * self.kept.shape[2]} "
                f"values a place after {self.kept.shape[0] * self.kept.shape[2]}"
            )
        place = np.arange(self.seen, self.seen + n)
        draw = (self.random.random(n) * (place + 1)).astype(np.int64)
        slot = np.where(place < self.size, place, draw)
        taken = np.flatnonzero(slot < self.size)
        # NumPy keeps the last of several writes to a slot, as a one-by-one loop would.
        self.kept[:, slot[taken]] = patches.numpy()[:, taken]
        self.seen += n

    def points(self) -> Array:
        """The sample ``(m, at most size, length)``."""
        if self.kept is None or self.size is None:
            raise ValueError("expected at least one image to learn from, got none")
        return self.kept[:, : min(self.seen, self.size)]


def _batches(images: Any) -> Iterator[torch.Tensor]:
    whole = isinstance(images, np.ndarray | torch.Tensor)
    if not whole and not isinstance(images, Iterable):
        raise ValueError(
            "expected images as an array (N, D, H, W) or an iterable of such batches, got "
            f"{type(images).__name__}"
        )
    for item in [images] if whole else images:
        batch = item[0] if isinstance(item, tuple | list) else item
        batch = torch.as_tensor(batch).detach()
        if batch.ndim != 4 or len(batch) == 0 or not batch.is_floating_point():
            raise ValueError(
                "expected images as a float batch (N, D, H, W), got "
                f"{batch.dtype} of shape {tuple(batch.shape)}: scale 8-bit images to [0, 1]"
            )
        size = max(1, min(IMAGES_AT_ONCE, FLOATS_AT_ONCE // batch[0].numel()))
        for part in torch.split(batch, size):
            here = part.cpu()
            if not bool(here.isfinite().all()):
                raise ValueError("expected finite images, got NaN or infinity")
            yield here


def _pool(patches: torch.Tensor) -> torch.Tensor:
    return patches.transpose(0, 1).reshape(1, -1, patches.shape[-1])


def _kmeans(points: Array, k: int, iterations: int | None, seed: int, device: Any) -> torch.Tensor:
    import faiss

    means = faiss.Kmeans(
        points.shape[1],
        k,
        niter=25 if iterations is None else iterations,
        seed=seed,
        # The sample is what to learn from: faiss is not to thin it, and the warning was given.
        min_points_per_centroid=1,
        max_points_per_centroid=len(points) // k + 1,
    )
    means.train(np.ascontiguousarray(points))
    return torch.from_numpy(np.array(means.centroids))


def _minibatch(
    points: Array, k: int, iterations: int | None, seed: int, device: Any
) -> torch.Tensor:
    # Sculley, "Web-scale k-means clustering", WWW 2010, with batches large enough to vectorise.
    random = np.random.default_rng(seed)
    size = max(k, 2**14)
    centers = torch.from_numpy(points[random.permutation(len(points))[:k]]).to(device)
    counts = torch.ones(k, 1, device=device)
    for _ in range(3 if iterations is None else iterations):
        order = random.permutation(len(points))
        for start in range(0, len(points), size):
            batch = torch.from_numpy(points[order[start : start + size]]).to(device)
            index = nearest(batch, centers)
            sums = torch.zeros_like(centers).index_add_(0, index, batch)
            here = torch.bincount(index, minlength=k)[:, None].float()
            counts += here
            centers += (sums - here * centers) / counts
    return centers.cpu()


def _sample(points: Array, k: int, iterations: int | None, seed: int, device: Any) -> torch.Tensor:
    return torch.from_numpy(points[:k].copy())


_METHODS: dict[str, Callable[[Array, int, int | None, int, Any], torch.Tensor]] = {
    "kmeans": _kmeans,
    "minibatch": _minibatch,
    "sample": _sample,
}
